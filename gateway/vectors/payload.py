"""The payload of a point, the same in every engine."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from gateway.vectors.base import FacePoint, Match

SUBJECT: Final = "subject"
TENANT: Final = "tenant"
CREATED_AT: Final = "created_at"
QUALITY: Final = "quality"
METADATA: Final = "metadata"
FLAGS: Final = "flags"
"""Metadata entries that are true, false or a float, repeated as text: Qdrant Edge 0.9 cannot filter
for booleans (`MatchValue(True)` matches the integer 1), and it misreads one in ten floats with 17
digits as a neighbouring value."""
IMAGE: Final = "image_sha256"
DETECTOR: Final = "detector"

VERSION: Final = 2
"""Version of the payload; 2 added `FLAGS`. Shards from before `FLAGS` held floats need no rebuild:
filters check the number, too."""
KEYWORD_FIELDS: Final = (SUBJECT, TENANT, IMAGE)
"""Payload fields with an exact-match index."""


def write_payload(point: FacePoint) -> dict[str, Any]:
    """Convert a point, without id and vector, to JSON values."""
    return {
        SUBJECT: point.subject,
        TENANT: point.tenant,
        CREATED_AT: point.created_at,
        QUALITY: dict(point.quality),
        METADATA: dict(point.metadata),
        FLAGS: [flag(k, v) for k, v in point.metadata.items() if isinstance(v, bool | float)],
        IMAGE: point.image_sha256,
        DETECTOR: point.detector,
    }


def read_point(face_id: str, vector: object, payload: Mapping[str, Any]) -> FacePoint:
    """Build a point from its id, vector and payload."""
    return FacePoint(
        face_id=face_id,
        vector=np.asarray(vector, dtype=np.float32),
        subject=payload[SUBJECT],
        tenant=payload[TENANT],
        created_at=float(payload[CREATED_AT]),
        quality=payload.get(QUALITY) or {},
        metadata=_read_metadata(payload),
        image_sha256=payload.get(IMAGE),
        detector=payload.get(DETECTOR),
    )


def read_match(face_id: str, similarity: float, payload: Mapping[str, Any]) -> Match:
    """Build a match of a search."""
    return Match(face_id, payload[SUBJECT], float(similarity), _read_metadata(payload))


def flag(key: str, value: float) -> str:
    """Format a metadata entry (true, false or a number) for `FLAGS`; 42.0 becomes 42."""
    if isinstance(value, bool):
        return f"{key}={'true' if value else 'false'}"
    return f"{key}={int(value) if value == int(value) else value!r}"


def _read_metadata(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata with floats exactly as they were sent."""
    metadata = payload.get(METADATA) or {}
    if not any(isinstance(value, float) for value in metadata.values()):
        return metadata
    written = dict(text.split("=", 1) for text in payload.get(FLAGS) or ())
    return {
        key: float(written.get(key, value)) if isinstance(value, float) else value
        for key, value in metadata.items()
    }


def metadata_field(key: str) -> str:
    """Return the path of a metadata entry in the payload (keys contain no dots or quotes)."""
    return f"{METADATA}.{key}"
