"""JSON in and out of the collection routes: the shapes, once, also for OpenAPI."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.api.shapes import NO_NUL, MaxFaces, QualityOut, Shape
from gateway.collections.base import MAX_INTEGER, MAX_METADATA_TEXT, METADATA_KEY
from gateway.collections.names import MAX_NAME, subject_name
from triton_python_backend import contract

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _text_schema(most: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": most})


Subject = Annotated[str, AfterValidator(subject_name), _text_schema(MAX_NAME)]


Embedding = Annotated[list[float], Field(min_length=2, max_length=4096, fail_fast=True)]
"""One wrong number is enough: reporting thousands of them takes seconds."""


Space = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


Metadata = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": f"^{METADATA_KEY.pattern}$"},
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "maxLength": MAX_METADATA_TEXT, "pattern": NO_NUL},
                    {"type": "number", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
                    {"type": "boolean"},
                ]
            },
        }
    ),
]
"""Flat; `check_metadata` checks it, as it counts entries by a setting."""


Gate = Literal["off", "standard", "strict"]


Keep = Literal["none", "crop"]


MAX_LIMIT = 1000


MAX_MATCHES = 100


class PageOptions(Shape):
    """Query parameters of lists."""

    limit: int = Field(default=100, ge=1, le=MAX_LIMIT)
    """Entries on a page."""
    cursor: str | None = Field(default=None, max_length=1024)
    """`next_cursor` of the page before."""


class FaceListOptions(PageOptions):
    """Query parameters of the list of faces."""

    subject: Subject | None = None
    """Only faces of this subject."""


class CollectionIn(Shape):
    """A new collection."""

    name: Name
    description: str = Field(default="", max_length=500, pattern=NO_NUL)
    keep: Keep = "none"
    """`crop`: the people agreed that their aligned faces are kept, encrypted, so that they can
    be embedded by a newer model."""
    quality: Gate = "standard"
    """Which faces are good enough to be enrolled."""
    retention_days: float | None = Field(default=None, gt=0, le=36500, allow_inf_nan=False)
    """Faces are forgotten so long after their enrolment; null: never."""
    match_threshold: Cosine | None = None
    """Cosine similarity from which a search matches; null: the service's own."""


class CollectionChange(Shape):
    """Settings to change; those left out stay. They hold for faces enrolled from now on."""

    description: str = Field(default="", max_length=500, pattern=NO_NUL)
    keep: Keep = "none"
    """From `crop` to `none` removes the crops that were kept."""
    quality: Gate = "standard"
    retention_days: float | None = Field(default=None, gt=0, le=36500, allow_inf_nan=False)
    match_threshold: Cosine | None = None


class EmbeddingIn(Shape):
    """A face that was embedded before."""

    embedding: Embedding
    """Need not be of unit length."""
    subject: Subject | None = None
    metadata: Metadata = Field(default_factory=dict)


class EnrolIn(Shape):
    """What to enrol, beside the images."""

    subject: Subject | None = None
    """Who it is; without it each face is a subject of its own, named by its id. Control
    characters, characters that are not seen and spaces at the ends are refused."""
    faces: Literal["largest", "all", "single"] = "largest"
    """Which faces of an image; `single` refuses an image with two."""
    quality: Gate | None = None
    """Instead of the collection's own gate."""
    metadata: Metadata = Field(default_factory=dict)
    """Flat: texts, numbers, true or false."""
    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    max_faces: MaxFaces = None
    """With `faces=all`: so many faces of an image at most, the largest."""
    rotation: contract.Rotation = contract.DEFAULT_LOOK.rotation
    """As for `/api/ml/embed`."""
    detail: contract.Detail = contract.DEFAULT_LOOK.detail
    """As for `/api/ml/embed`."""
    embedding: Embedding | None = None
    """A single embedding instead of images, with `space`."""
    embeddings: Annotated[list[EmbeddingIn], Field(min_length=1, fail_fast=True)] | None = None
    """Many embeddings instead of images, with `space`."""
    space: Space | None = None
    """The space of the embeddings."""


class SearchIn(Shape):
    """What to look for, beside the image."""

    faces: Literal["largest", "all"] = "largest"
    """Which faces of the image."""
    limit: int = Field(default=10, ge=1, le=MAX_MATCHES)
    """Matches of a face at most."""
    min_similarity: Cosine | None = None
    """Cosine from which a face matches; without it the collection's threshold."""
    target_fmr: float | None = Field(default=None, gt=0, lt=1, allow_inf_nan=False)
    """The share of strangers that may match; needs a calibration of the model."""
    group_by: Literal["subject", "face"] = "subject"
    """`subject`: the best face of each; `face`: every face."""
    subject: Subject | None = None
    """Only this subject."""
    filter: Metadata = Field(default_factory=dict)
    """Metadata that a face must carry, all of it."""
    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    max_faces: MaxFaces = None
    """With `faces=all`: so many faces of an image at most, the largest."""
    rotation: contract.Rotation = contract.DEFAULT_LOOK.rotation
    """As for `/api/ml/embed`."""
    detail: contract.Detail = contract.DEFAULT_LOOK.detail
    """As for `/api/ml/embed`."""
    embedding: Embedding | None = None
    """Instead of an image, with `space`."""
    space: Space | None = None


class ClusterIn(Shape):
    """How to group."""

    threshold: Cosine | None = None
    """Cosine at which two groups are one person on average; without it the collection's."""


class MigrateIn(Shape):
    """What to do about the embedding space."""

    action: Literal["start", "rollback", "finish"] = "start"
    """`start`: embed every kept crop with the newest model, then search there. `rollback`: back to
    the old space. `finish`: drop the old space for good."""


class MigrationOut(Shape):
    """A move to another embedding space."""

    source: str
    target: str
    state: Literal["backfill", "verified", "switched", "failed"]
    total: int
    done: int
    detail: str
    """Why it failed."""


class CollectionOut(Shape):
    """A collection."""

    name: str
    description: str
    keep: Keep
    quality: Gate
    retention_days: float | None
    match_threshold: float | None
    faces: int
    subjects: int
    space: str | None
    """The embedding space that it lives in; null until the first face."""
    dimension: int | None
    migration: MigrationOut | None
    created_at: str
    updated_at: str


class CollectionAnswer(CollectionOut):
    """A collection, as an answer of its own."""

    request_id: str


class CollectionsOut(Shape):
    """Collections by name."""

    request_id: str
    collections: list[CollectionOut]
    next_cursor: str | None


class EnrolledOut(Shape):
    """A face that is remembered."""

    face_id: str
    subject: str
    index: int
    """Of the image or embedding in the request."""
    duplicate: bool
    """Whether this very image was enrolled for this subject before; nothing new was written."""
    faces_found: int | None
    """How many faces the image shows, this one among them; null for an embedding."""
    box: tuple[float, float, float, float] | None
    quality: QualityOut | None
    metadata: dict[str, Any]
    created_at: str


class RejectedOut(Shape):
    """An image, or a face of it, that was not enrolled."""

    index: int
    name: str | None
    """File name, as sent."""
    code: str
    detail: str
    reasons: list[str]
    """What is wrong with the quality of the face."""
    box: tuple[float, float, float, float] | None


class EnrolOut(Shape):
    """What was enrolled and what was not."""

    request_id: str
    faces: list[EnrolledOut]
    rejected: list[RejectedOut]
    space: str | None


class FaceRecordOut(Shape):
    """A remembered face."""

    face_id: str
    subject: str
    box: tuple[float, float, float, float] | None
    quality: QualityOut | None
    metadata: dict[str, Any]
    image_sha256: str | None
    space: str
    detector: str | None
    created_at: str
    expires_at: str | None


class FaceListOut(Shape):
    """Remembered faces, oldest first."""

    request_id: str
    faces: list[FaceRecordOut]
    next_cursor: str | None


class MatchOut(Shape):
    """A match."""

    subject: str
    face_id: str
    similarity: float
    """Cosine."""
    metadata: dict[str, Any]


class SearchedOut(Shape):
    """A face of the probe and who it may be, best first; nobody: no matches."""

    box: tuple[float, float, float, float] | None
    quality: QualityOut | None
    matches: list[MatchOut]


class SearchOut(Shape):
    """The faces of the probe."""

    request_id: str
    faces: list[SearchedOut]
    faces_found: int | None
    """How many faces the image shows; null for an embedding."""
    rotation: int | None
    """Degrees by which the image was turned clockwise to be looked at."""
    threshold: float
    space: str | None


class ReceiptOut(Shape):
    """What was forgotten."""

    request_id: str
    receipt: str
    """Also in the audit."""
    at: str
    faces: int
    vectors: int
    """More than faces while a collection moves to another space."""
    crops: int
    cached_answers: int


class ClusterOut(Shape):
    """One identity."""

    cluster_id: str
    """Stays the same from run to run as long as most of its faces do."""
    size: int
    subjects: dict[str, int]
    """How many of its faces carry which subject."""
    faces: list[str]
    """Face ids, a hundred at most."""


class ProgressOut(Shape):
    """How far a run is."""

    total: int
    done: int


class ClusterRunOut(Shape):
    """The latest run."""

    request_id: str
    run_id: str
    state: Literal["running", "done", "failed"]
    threshold: float
    progress: ProgressOut
    detail: str | None
    started_at: str
    finished_at: str | None


class ClustersOut(ClusterRunOut):
    """The latest run, and the groups of the latest that is done."""

    clusters: list[ClusterOut]
    next_cursor: str | None
