"""Examples of the admin routes."""

from typing import Any, Final

_ID: Final = "0f8fad5bd9cb469fa16570867728950e"
_KEYS: Final = "/api/admin/keys"
_KEY: Final[dict[str, Any]] = {
    "key_id": "7k2m9qwz41xt",
    "tenant": "default",
    "name": "web shop",
    "roles": ["infer", "search"],
    "collections": ["customers"],
    "created_at": "2026-11-29T12:00:00.000Z",
    "created_by": "key:a0b1c2d3e4f5",
    "expires_at": "2027-11-29T12:00:00.000Z",
    "revoked_at": None,
    "last_used_at": None,
    "replaces": None,
    "limits": {
        "requests_per_minute": 600,
        "burst": 60,
        "megapixels_per_minute": None,
        "concurrent": 8,
    },
    "valid": True,
}
_NEW: Final = {
    **_KEY,
    # no key of any gateway: its secret is not random and its checksum is wrong
    "key": f"aur_7k2m9qwz41xt_{'x' * 43}_000000",
    "request_id": _ID,
}

ADMIN_EXAMPLES: Final[dict[tuple[str, str, int], dict[str, Any]]] = {
    ("POST", _KEYS, 201): _NEW,
    ("GET", _KEYS, 200): {"request_id": _ID, "next_cursor": None, "keys": [_KEY]},
    ("PATCH", f"{_KEYS}/{{key_id}}", 200): {
        **_KEY,
        "limits": {
            "requests_per_minute": 1200,
            "burst": 60,
            "megapixels_per_minute": None,
            "concurrent": None,
        },
        "request_id": _ID,
    },
    ("POST", f"{_KEYS}/{{key_id}}/rotate", 201): {**_NEW, "replaces": "a0b1c2d3e4f5"},
    ("DELETE", f"{_KEYS}/{{key_id}}", 200): {
        **_KEY,
        "revoked_at": "2026-11-30T08:30:00.000Z",
        "valid": False,
        "request_id": _ID,
    },
    ("GET", "/api/admin/webhook-secret", 200): {
        "request_id": _ID,
        "tenant": "default",
        # no secret of any gateway
        "secret": f"whs_{'x' * 43}",
    },
    ("GET", "/api/admin/audit", 200): {
        "request_id": _ID,
        "next_cursor": None,
        "lines": [
            {
                "at": "2026-11-29T12:00:00.000Z",
                "actor": "key:a0b1c2d3e4f5",
                "action": "create_key",
                "collection": None,
                "receipt": "7k2m9qwz41xt",
                "counts": {},
                "request_id": _ID,
                "outcome": "ok",
            }
        ],
    },
}
