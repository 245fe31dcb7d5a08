"""JSON in and out of the face routes.

Fields that were not requested stay unset and do not appear; `null` is a requested value that is not
known.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from gateway.api.shapes import FaceOut, ImageOut, MaxFaces, ModelsOut, Shape, TookOut
from gateway.types import SCORE_RANGE
from triton_python_backend import contract
from triton_python_backend.needs import INCLUDABLE

if TYPE_CHECKING:
    Include = str
else:
    Include = Literal[INCLUDABLE]


def _split(value: object) -> object:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


class FaceOptions(Shape):
    """Query parameters of the routes that answer with faces."""

    include: Annotated[tuple[Include, ...], BeforeValidator(_split)] = ()
    """What to add to each face, separated by commas."""
    max_faces: MaxFaces = None
    """Answer with so many faces at most, the largest; without it as many as the service is set
    to give (`AURUM_MAX_FACES`, 32)."""
    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    """Leave out faces that the detector is less sure of; it reports none below 0.5."""
    rotation: contract.Rotation = contract.DEFAULT_LOOK.rotation
    """`auto`: an image that shows no upright face is looked at turned, too; `off`: as it is."""
    detail: contract.Detail = contract.DEFAULT_LOOK.detail
    """`high`: a large image is looked at in tiles, too, for small faces; takes seconds."""


class VerifyOptions(Shape):
    """Query parameters of `/api/ml/verify`; `threshold` may also be a field of the body."""

    threshold: float | None = Field(default=None, ge=-1, le=1, allow_inf_nan=False)
    """Cosine similarity from which the two are one person; without it that of `target_fmr`, else
    of FMR 0.001 where the embedding version is calibrated, else the service's own."""
    target_fmr: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    """The share of pairs of different people that may match; needs a calibrated version."""
    faces: Literal["largest", "best"] = "largest"
    """`largest`: of each image that face; `best`: of all faces the two that are most alike."""
    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    """Leave out faces that the detector is less sure of; it reports none below 0.5."""
    max_faces: MaxFaces = None
    """With `faces=best`: compare so many faces of each image at most, the largest."""
    rotation: contract.Rotation = contract.DEFAULT_LOOK.rotation
    """As for `/api/ml/embed`."""
    detail: contract.Detail = contract.DEFAULT_LOOK.detail
    """As for `/api/ml/embed`."""


class VerifyIn(Shape):
    """Fields of `/api/ml/verify` beside the images."""

    threshold: float | None = Field(default=None, ge=-1, le=1, allow_inf_nan=False)
    """As the query parameter of this name; one of them may be given."""


class FacesOut(Shape):
    """Answer with the faces of one image, largest first."""

    request_id: str
    image: ImageOut
    faces: list[FaceOut]
    faces_found: int
    """How many faces were found, with those beyond `max_faces`; none below `min_confidence`."""
    rotation: int
    """Degrees by which the image was turned clockwise to be looked at; 0 where it is upright."""
    score_range: tuple[int, int] = SCORE_RANGE
    """Lowest and highest score; only where scores are."""
    models: ModelsOut
    engine: str
    """What computed it."""
    cached: bool
    took_ms: TookOut


class VerifyOut(Shape):
    """Answer on whether two images show one person."""

    request_id: str
    similarity: float
    """Cosine, -1 to 1."""
    match: bool
    """Whether `similarity` >= `threshold`."""
    threshold: float
    face_a: FaceOut
    face_b: FaceOut
    faces_found_a: int
    """How many faces `image_a` shows, none below `min_confidence`."""
    faces_found_b: int
    rotation_a: int
    """Degrees by which `image_a` was turned clockwise to be looked at."""
    rotation_b: int
    image_a: ImageOut
    image_b: ImageOut
    models: ModelsOut
    engine: str
    cached: bool
    took_ms: TookOut
