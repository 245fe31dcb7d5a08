"""Examples of the job routes for the OpenAPI document; tested like the others."""

from typing import Any, Final

_ID: Final = "0f8fad5bd9cb469fa16570867728950e"
_JOB_ID: Final = "01932c07-209c-7c52-a9f1-4c1e7bd0a5cc"
_JOB: Final = {
    "job_id": _JOB_ID,
    "operation": "detect",
    "state": "running",
    "total": 2000,
    "done": 498,
    "failed": 2,
    "skipped": 1,
    "created_at": "2026-01-01T12:00:00.000Z",
    "started_at": "2026-01-01T12:00:01.250Z",
    "finished_at": None,
    "expires_at": None,
    "images_per_second": 25.0,
    "seconds_left": 60.0,
    "detail": None,
    "collection": None,
    "webhook": {"state": "none", "attempts": 0},
}
_QUEUED: Final = _JOB | {"state": "queued", "images_per_second": None, "seconds_left": None}
_RESULT: Final = {
    "request_id": _ID,
    "image": {
        "width": 1280,
        "height": 886,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    },
    "faces": [],
    "faces_found": 0,
    "rotation": 0,
    "models": {"detection": "1", "embedding": None, "scoring": None, "space": None},
    "engine": "triton",
    "cached": False,
    "took_ms": {"validate": 1.1, "inference": 31.0, "total": 33.9},
}
_RESULTS: Final = [
    {"index": 0, "name": "a.jpg", "status": "ok", "result": _RESULT},
    {
        "index": 1,
        "name": "b.jpg",
        "status": "error",
        "error": {"code": "invalid_image", "detail": "the image is truncated"},
    },
    {"index": 2, "name": "c.jpg", "status": "queued"},
]
_ANSWER: Final = {"request_id": _ID}

JOB_EXAMPLES: Final[dict[tuple[str, str, int], dict[str, Any]]] = {
    ("POST", "/api/ml/score/batch", 200): _JOB
    | _ANSWER
    | {
        "state": "done",
        "done": 1998,
        "started_at": "2026-01-01T12:00:01.250Z",
        "finished_at": "2026-01-01T12:00:41.000Z",
        "expires_at": "2026-01-02T12:00:41.000Z",
        "images_per_second": None,
        "seconds_left": None,
        "detail": "2 images of 2000 failed; POST …/retry repeats them",
    },
    ("POST", "/api/ml/score/batch", 202): _QUEUED
    | _ANSWER
    | {"done": 0, "failed": 0, "started_at": None},
    ("GET", "/api/ml/jobs", 200): _ANSWER | {"jobs": [_JOB], "next_cursor": None},
    ("GET", "/api/ml/jobs/{job_id}", 200): _JOB | _ANSWER,
    ("GET", "/api/ml/jobs/{job_id}/results", 200): _ANSWER
    | {"job_id": _JOB_ID, "results": _RESULTS, "next_cursor": None},
    ("DELETE", "/api/ml/jobs/{job_id}", 200): _QUEUED
    | _ANSWER
    | {"state": "cancelled", "detail": "1500 images were not worked on"},
    ("POST", "/api/ml/jobs/{job_id}/retry", 202): _QUEUED | _ANSWER | {"failed": 0},
    ("POST", "/api/ml/jobs/{job_id}/pause", 200): _QUEUED
    | _ANSWER
    | {"state": "paused", "detail": "the job is paused"},
    ("POST", "/api/ml/jobs/{job_id}/resume", 200): _QUEUED | _ANSWER,
}
