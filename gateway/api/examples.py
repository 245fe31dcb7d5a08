"""Examples for the OpenAPI document; a test holds them against the schemas."""

from typing import Any, Final

from gateway.api.admin.examples import ADMIN_EXAMPLES
from gateway.api.collections.examples import COLLECTION_EXAMPLES, QUALITY
from gateway.api.jobs.examples import JOB_EXAMPLES
from gateway.api.kserve.examples import KSERVE_EXAMPLES
from gateway.api.people.examples import PEOPLE_EXAMPLES

_FACE: Final = {
    "box": [312.4, 96.8, 416.6, 231.5],
    "landmarks": [[341.2, 148.9], [388.7, 149.6], [364.5, 176.2], [345.8, 199.4], [384.1, 200.3]],
    "confidence": 0.91,
    "quality": QUALITY,
}
_ID: Final = "0f8fad5bd9cb469fa16570867728950e"
_SPACE: Final = "9f3c0a7be41d5826"
_DIGEST: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_IMAGE: Final = {"width": 1280, "height": 886, "sha256": _DIGEST}
_TOOK: Final = {"validate": 1.1, "inference": 31.0, "total": 33.9}
_DETECTED: Final = {"detection": "1", "embedding": None, "scoring": None, "space": None}
_EMBEDDED: Final = {"detection": "1", "embedding": "1", "scoring": None, "space": _SPACE}


def _faces(face: dict[str, Any], models: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "request_id": _ID,
        "image": _IMAGE,
        "faces": [face],
        "faces_found": 1,
        "rotation": 0,
        "models": models,
        "engine": "triton",
        "cached": False,
        "took_ms": _TOOK,
    } | more


EXAMPLES: Final[dict[tuple[str, str, int], dict[str, Any]]] = {
    ("POST", "/api/ml/score", 200): _faces(
        _FACE | {"score": 6.4}, _EMBEDDED | {"scoring": "1"}, score_range=[1, 10]
    ),
    ("POST", "/api/ml/detect", 200): _faces(_FACE, _DETECTED),
    ("POST", "/api/ml/embed", 200): _faces(_FACE | {"embedding": [0.6, -0.8]}, _EMBEDDED),
    ("POST", "/api/ml/verify", 200): {
        "request_id": _ID,
        "similarity": 0.71,
        "match": True,
        "threshold": 0.32,
        "face_a": _FACE,
        "face_b": _FACE,
        "faces_found_a": 1,
        "faces_found_b": 1,
        "rotation_a": 0,
        "rotation_b": 0,
        "image_a": _IMAGE,
        "image_b": _IMAGE,
        "models": _EMBEDDED,
        "engine": "triton",
        "cached": False,
        "took_ms": _TOOK,
    },
    ("GET", "/api/ml/models", 200): {
        "request_id": _ID,
        "engine": "triton",
        "stages": [
            {
                "name": "face_embedding",
                "backend": "onnxruntime",
                "serving": "1",
                "versions": [
                    {
                        "version": "1",
                        "state": "READY",
                        "reason": "",
                        "id": _SPACE,
                        "sha256": _DIGEST,
                        "source": {"file": "embedding.onnx", "sha256": _DIGEST},
                        "network": "arcface",
                        "dimension": 128,
                        "space": _SPACE,
                        "licence": "Apache-2.0",
                        "imported_at": "2026-01-01T00:00:00Z",
                        "calibration": None,
                        "reference": {
                            "photos": "photos of visitors, every 10th",
                            "faces": 2000,
                            "made_at": "2026-01-02T00:00:00Z",
                        },
                    }
                ],
            }
        ],
    },
    ("GET", "/api/ml/models/candidate", 200): {
        "request_id": _ID,
        "trial": {
            "trial": "5f1c2ab0",
            "stage": "face_detection",
            "version": "2",
            "mode": "canary",
            "share": 0.1,
            "by": "request",
            "since": "2026-01-01T00:00:00Z",
            "state": "running",
            "reason": "",
            "rates": True,
            "active": {
                "version": "1",
                "answered": 912,
                "errors": {},
                "faces": 1034,
                "p50_ms": 38.2,
                "p95_ms": 61.0,
            },
            "candidate": {
                "version": "2",
                "answered": 97,
                "errors": {"timeout": 1},
                "faces": 118,
                "p50_ms": 41.7,
                "p95_ms": 70.3,
            },
            "compared": {
                "images": 61,
                "skipped": 36,
                "failed": 0,
                "matched": 70,
                "only_active": 0,
                "only_candidate": 2,
                "box_iou": 0.9412,
                "cosine_mean": 0.9871,
                "cosine_min": 0.9023,
                "score_difference_mean": 0.0713,
                "score_difference_max": 0.2004,
                "scores_lost": 0,
            },
        },
    },
    ("GET", "/api/health/live", 200): {"status": "live"},
    ("GET", "/api/health/ready", 200): {
        "status": "ready",
        "parts": {
            "triton": {"status": "ready", "detail": "127.0.0.1:8001"},
            "face_pipeline": {
                "status": "ready",
                "detail": "version 1",
                "version": "1",
                "versions": [{"version": "1", "state": "READY", "reason": ""}],
            },
            "vectors": {"status": "ready", "detail": "Qdrant Edge, process 4711, 2 collections"},
            "records": {"status": "degraded", "detail": "no answer for 4 s"},
        },
    },
    ("GET", "/api/health/ready", 503): {
        "status": "unready",
        "parts": {"triton": {"status": "unready", "detail": "127.0.0.1:8001: not available"}},
    },
    **JOB_EXAMPLES,
    **ADMIN_EXAMPLES,
    **COLLECTION_EXAMPLES,
    **PEOPLE_EXAMPLES,
    **KSERVE_EXAMPLES,
}
