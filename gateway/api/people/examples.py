"""Examples of the routes about people's rights."""

from typing import Any, Final

from gateway.api.collections.examples import SUBJECT

_ID: Final = "0f8fad5bd9cb469fa16570867728950e"
_ENTRY_ID: Final = "01932c07-209c-7c52-a9f1-4c1e7bd0a5cc"
_AT: Final = "2026-01-01T12:00:00.000Z"
_CANDIDATE: Final = {
    **SUBJECT,
    "metadata": {"team": "red"},
    "collection": "people",
    "similarity": 0.71,
}
_ENTRY: Final = {
    "entry_id": _ENTRY_ID,
    "reason": "the person asked for it",
    "created_at": _AT,
    "created_by": "key:a0b1c2d3e4f5",
    "space": "9f3c0a7be41d5826",
    "has_crop": False,
    "compared": True,
}
_LIST: Final = "/api/collections/{name}/do-not-enrol"

PEOPLE_EXAMPLES: Final[dict[tuple[str, str, int], dict[str, Any]]] = {
    ("POST", "/api/subjects/find", 200): {
        "request_id": _ID,
        "people": [_CANDIDATE],
        "not_searched": [],
    },
    ("POST", "/api/subjects/erase", 200): {
        "request_id": _ID,
        "receipt": _ENTRY_ID,
        "at": _AT,
        "erased": [
            {
                "collection": "people",
                "subject": "anna",
                "receipt": _ENTRY_ID,
                "faces": 3,
                "vectors": 3,
                "crops": 0,
                "cached_answers": 1,
                "job_results": 1,
                "do_not_enrol": [],
            }
        ],
        "remains": [
            {
                "what": "lines of the audit log",
                "until": None,
                "why": "they show that the data was deleted, and name no person",
            }
        ],
    },
    ("POST", _LIST, 201): {"request_id": _ID, "entries": [_ENTRY]},
    ("GET", _LIST, 200): {"request_id": _ID, "entries": [_ENTRY], "next_cursor": None},
    ("DELETE", f"{_LIST}/{{entry_id}}", 200): _ENTRY | {"compared": False, "request_id": _ID},
}
