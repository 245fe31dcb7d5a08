"""The payload of a point, the same in every engine, written and read in one place."""

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
"""Metadata that is true or false, once more as texts: Qdrant Edge 0.9 has no filter for booleans
(`MatchValue(True)` asks for the integer 1)."""
IMAGE: Final = "image_sha256"
DETECTOR: Final = "detector"

VERSION: Final = 2
"""Of what `write_payload` writes; 2 added `FLAGS`."""
KEYWORD_FIELDS: Final = (SUBJECT, TENANT, IMAGE)
"""Payload fields with an exact-match index of their own."""


def write_payload(point: FacePoint) -> dict[str, Any]:
    """Everything of a point but its id and vector, as JSON values."""
    return {
        SUBJECT: point.subject,
        TENANT: point.tenant,
        CREATED_AT: point.created_at,
        QUALITY: dict(point.quality),
        METADATA: dict(point.metadata),
        FLAGS: [flag(k, v) for k, v in point.metadata.items() if isinstance(v, bool)],
        IMAGE: point.image_sha256,
        DETECTOR: point.detector,
    }


def read_point(face_id: str, vector: object, payload: Mapping[str, Any]) -> FacePoint:
    """Build the point that `write_payload` took apart."""
    return FacePoint(
        face_id=face_id,
        vector=np.asarray(vector, dtype=np.float32),
        subject=payload[SUBJECT],
        tenant=payload[TENANT],
        created_at=float(payload[CREATED_AT]),
        quality=payload.get(QUALITY) or {},
        metadata=payload.get(METADATA) or {},
        image_sha256=payload.get(IMAGE),
        detector=payload.get(DETECTOR),
    )


def read_match(face_id: str, similarity: float, payload: Mapping[str, Any]) -> Match:
    """Build one answer of a search."""
    return Match(face_id, payload[SUBJECT], float(similarity), payload.get(METADATA) or {})


def flag(key: str, value: bool) -> str:
    """A metadata entry that is true or false, as an entry of `FLAGS`."""
    return f"{key}={'true' if value else 'false'}"


def metadata_field(key: str) -> str:
    """The path of a metadata entry inside the payload (keys hold no dots or quotes)."""
    return f"{METADATA}.{key}"
