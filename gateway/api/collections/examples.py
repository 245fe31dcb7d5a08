"""Examples of the collection routes for the OpenAPI document; tested like the others."""

from typing import Any, Final

_ID: Final = "0f8fad5bd9cb469fa16570867728950e"
_SPACE: Final = "9f3c0a7be41d5826"
_FACE_ID: Final = "01932c07-209c-7c52-a9f1-4c1e7bd0a5cc"
_DIGEST: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_AT: Final = "2026-01-01T12:00:00.000Z"
_BOX: Final = [312.4, 96.8, 416.6, 231.5]
QUALITY: Final = {
    "size": 104.2,
    "sharpness": 0.71,
    "brightness": 0.5,
    "yaw": -3.1,
    "pitch": 4.0,
    "roll": 1.2,
    "acceptable": True,
    "reasons": [],
}
_COLLECTION: Final = {
    "name": "people",
    "description": "",
    "keep": "none",
    "quality": "standard",
    "retention_days": None,
    "match_threshold": None,
    "requires_consent": False,
    "faces": 3,
    "subjects": 3,
    "space": _SPACE,
    "dimension": 128,
    "migration": None,
    "created_at": _AT,
    "updated_at": _AT,
}
_MOVING: Final = _COLLECTION | {
    "keep": "crop",
    "migration": {
        "source": _SPACE,
        "target": "0d1e2f3a4b5c6d7e",
        "state": "backfill",
        "total": 3,
        "done": 0,
        "detail": "",
    },
}
_ENROLLED: Final = {
    "face_id": _FACE_ID,
    "subject": "anna",
    "index": 0,
    "duplicate": False,
    "faces_found": 1,
    "box": _BOX,
    "quality": QUALITY,
    "metadata": {"team": "red"},
    "created_at": _AT,
}
_REJECTED: Final = {
    "index": 1,
    "name": "b.jpg",
    "code": "low_quality",
    "detail": "the face does not pass the standard gate: too_small",
    "reasons": ["too_small"],
    "box": [10.0, 12.0, 31.5, 40.25],
}
_RECEIPT: Final = {
    "request_id": _ID,
    "receipt": _FACE_ID,
    "at": _AT,
    "faces": 1,
    "vectors": 1,
    "crops": 0,
    "cached_answers": 1,
    "job_results": 0,
}
SUBJECT: Final = {
    "subject": "anna",
    "display_name": "Anna Bell",
    "external_id": "E-1042",
    "metadata": {"team": "red", "badge": True},
    "consent": {
        "reference": "form 4711",
        "given_at": _AT,
        "expires_at": None,
        "withdrawn_at": None,
    },
    "purpose": "door of building 7",
    "faces": 3,
    "created_at": _AT,
    "updated_at": _AT,
}
_RUN: Final = {
    "request_id": _ID,
    "run_id": _FACE_ID,
    "state": "running",
    "threshold": 0.32,
    "progress": {"total": 3, "done": 0},
    "detail": None,
    "started_at": _AT,
    "finished_at": None,
}
_ANSWER: Final = _COLLECTION | {"request_id": _ID}
_NAMED: Final = "/api/collections/{name}"

COLLECTION_EXAMPLES: Final[dict[tuple[str, str, int], dict[str, Any]]] = {
    ("POST", "/api/collections", 201): _ANSWER,
    ("GET", "/api/collections", 200): {
        "request_id": _ID,
        "collections": [_COLLECTION],
        "next_cursor": None,
    },
    ("GET", _NAMED, 200): _ANSWER,
    ("PATCH", _NAMED, 200): _ANSWER,
    ("DELETE", _NAMED, 200): _RECEIPT,
    ("POST", f"{_NAMED}/faces", 201): {
        "request_id": _ID,
        "faces": [_ENROLLED],
        "rejected": [_REJECTED],
        "space": _SPACE,
    },
    ("POST", f"{_NAMED}/faces", 200): {
        "request_id": _ID,
        "faces": [_ENROLLED | {"duplicate": True}],
        "rejected": [],
        "space": _SPACE,
    },
    ("GET", f"{_NAMED}/faces", 200): {
        "request_id": _ID,
        "faces": [
            {
                "face_id": _FACE_ID,
                "subject": "anna",
                "box": _BOX,
                "quality": QUALITY,
                "metadata": {"team": "red"},
                "image_sha256": _DIGEST,
                "space": _SPACE,
                "detector": "5be41d58269f3c0a",
                "created_at": _AT,
                "expires_at": None,
            }
        ],
        "next_cursor": None,
    },
    ("DELETE", f"{_NAMED}/faces/{{face_id}}", 200): _RECEIPT,
    ("GET", f"{_NAMED}/subjects", 200): {
        "request_id": _ID,
        "subjects": [SUBJECT],
        "next_cursor": None,
    },
    ("GET", f"{_NAMED}/subjects/{{subject}}", 200): SUBJECT | {"request_id": _ID},
    ("PATCH", f"{_NAMED}/subjects/{{subject}}", 200): SUBJECT | {"request_id": _ID},
    ("DELETE", f"{_NAMED}/subjects/{{subject}}", 200): _RECEIPT,
    ("POST", f"{_NAMED}/search", 200): {
        "request_id": _ID,
        "faces": [
            {
                "box": _BOX,
                "quality": QUALITY,
                "matches": [
                    {
                        "subject": "anna",
                        "face_id": _FACE_ID,
                        "similarity": 0.71,
                        "metadata": {"team": "red"},
                    }
                ],
            }
        ],
        "faces_found": 1,
        "rotation": 0,
        "threshold": 0.32,
        "space": _SPACE,
    },
    ("POST", f"{_NAMED}/clusters", 202): _RUN,
    ("GET", f"{_NAMED}/clusters", 200): _RUN
    | {
        "state": "done",
        "progress": {"total": 3, "done": 3},
        "finished_at": _AT,
        "clusters": [
            {
                "cluster_id": "5a7d0b0e-8f0e-5b6a-9d3b-3f1f4b1c2d3e",
                "size": 1,
                "subjects": {"anna": 1},
                "faces": [_FACE_ID],
            }
        ],
        "next_cursor": None,
    },
    ("POST", f"{_NAMED}/migrate", 202): _MOVING | {"request_id": _ID},
    ("POST", f"{_NAMED}/migrate", 200): _ANSWER,
}
