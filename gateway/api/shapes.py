"""Shapes of JSON that several resources share: images, faces, problems."""

from typing import Annotated, Any

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from triton_python_backend import contract

Vector = Annotated[
    Any,
    PlainValidator(lambda value: np.asarray(value, dtype=np.float32)),
    WithJsonSchema({"type": "array", "items": {"type": "number"}}),
]
"""[D] float32; stays an array until it is written, which saves 512 Python floats per face."""


NO_NUL = r"^[^\x00]*$"
"""Pattern of strings that every database can store."""


class Shape(BaseModel):
    """Base of all shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class NoOptions(Shape):
    """A route without query parameters."""


MaxFaces = Annotated[int | None, Field(ge=1, le=contract.MOST_FACES)]


class ImageOut(Shape):
    """The analysed image: upright size in pixels, SHA-256 of its bytes."""

    width: int
    height: int
    sha256: str


class QualityOut(Shape):
    """Quality of the face in the photo."""

    size: float
    """Shorter edge of the box in pixels."""
    sharpness: float
    """0 (blurred) to 1."""
    brightness: float
    """0 (black) to 1 (white)."""
    yaw: float
    """Degrees; positive if the nose points to the right of the image."""
    pitch: float
    """Degrees; positive if the face looks up."""
    roll: float
    """Degrees; positive if the head is tilted clockwise in the image, after its `rotation`."""
    acceptable: bool
    """Whether `reasons` is empty."""
    reasons: list[str]
    """Why the face is not acceptable."""


class FaceOut(Shape):
    """A face, in pixels of the upright image."""

    box: tuple[float, float, float, float]
    """x1, y1, x2, y2."""
    landmarks: list[tuple[float, float]]
    """Left eye, right eye, nose, left and right mouth corner, as seen in the image after its
    `rotation`, in pixels of the image that was sent."""
    confidence: float
    """Confidence of the detector, 0 to 1."""
    quality: QualityOut
    score: float | None = None
    """1 to 10; null if the scoring head does not fit the embedding model in service."""
    embedding: Vector = Field(default_factory=list)
    """Unit vector, comparable within one space only; with `include=embedding`."""
    crop: str = Field(default_factory=str)
    """The aligned face, 112 x 112 pixels, as a data URI of a PNG; with `include=crop`."""


class ModelsOut(Shape):
    """Versions behind this answer; null for a stage that it did not need."""

    detection: str | None
    embedding: str | None
    scoring: str | None
    space: str | None
    """Id of the embedding space, 16 hexadecimal digits."""


class TookOut(Shape):
    """Milliseconds by step; `total` includes the reception of the body."""

    validate_: float = Field(alias="validate")
    inference: float
    total: float

    model_config = ConfigDict(serialize_by_alias=True)


class ProblemOut(Shape):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    error: str | None = None
    """The detail again, where clients of KServe v2 expect it; on paths below `/v2` only."""
    violated_policies: list[str] | None = Field(default=None, alias="violated-policies")
    """The limits of the caller that the request exceeds, as `RateLimit-Policy` names them."""


def dump_json(answer: BaseModel) -> bytes:
    """Serialise to JSON; NumPy arrays become lists, NaN becomes null."""
    return orjson.dumps(
        answer.model_dump(exclude_unset=True, by_alias=True), option=orjson.OPT_SERIALIZE_NUMPY
    )
