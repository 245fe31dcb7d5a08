"""Shapes of the JSON that the collection routes take and return."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.api.collections.consent import SentConsent, Text
from gateway.api.pagination import PageOptions, PageOut
from gateway.api.shapes import NO_NUL, MaxFaces, QualityOut, Shape
from gateway.collections.base import MAX_INTEGER, MAX_METADATA_TEXT, METADATA_KEY
from gateway.collections.names import MAX_NAME, subject_name
from triton_python_backend import contract

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def text_schema(most: int) -> WithJsonSchema:
    """Describe a text of 1 to `most` characters."""
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": most})


Subject = Annotated[str, AfterValidator(subject_name), text_schema(MAX_NAME)]

Embedding = Annotated[list[float], Field(min_length=2, max_length=4096, fail_fast=True)]
"""Validation stops at the first wrong number: reporting thousands takes seconds."""

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
"""A flat object; `check_metadata` checks it, because a setting limits its entries."""

Gate = Literal["off", "standard", "strict"]

Keep = Literal["none", "crop"]

MAX_MATCHES = 100


class FaceListOptions(PageOptions):
    """Query parameters of the list of faces."""

    subject: Subject | None = None
    """Only faces of this subject."""


class CollectionIn(Shape):
    """A new collection."""

    name: Name
    description: str = Field(default="", max_length=500, pattern=NO_NUL)
    keep: Keep = "none"
    """`crop` stores aligned faces, encrypted, so that a newer model can embed them; the people
    must have agreed to that. `none` stores no crops."""
    quality: Gate = "standard"
    """Lowest quality of faces that are enrolled."""
    retention_days: float | None = Field(default=None, gt=0, le=36500, allow_inf_nan=False)
    """Days after which an enrolled face is deleted; null keeps it."""
    match_threshold: Cosine | None = None
    """Lowest cosine similarity of a match; null uses the service's threshold."""
    requires_consent: bool = False
    """Enrol nobody without a `consent` that is valid."""


class CollectionChange(Shape):
    """Settings to change, for faces enrolled from now on; those left out do not change."""

    description: str = Field(default="", max_length=500, pattern=NO_NUL)
    keep: Keep = "none"
    """Switching from `crop` to `none` deletes stored crops."""
    quality: Gate = "standard"
    retention_days: float | None = Field(default=None, gt=0, le=36500, allow_inf_nan=False)
    match_threshold: Cosine | None = None
    requires_consent: bool = False
    """Faces that were enrolled without consent stay."""


class EmbeddingIn(Shape):
    """A face that was embedded before; `metadata` is added to that of the request."""

    embedding: Embedding
    """Need not be of unit length."""
    subject: Subject | None = None
    metadata: Metadata = Field(default_factory=dict)


class DetectionIn(Shape):
    """Fields of detection, beside an image."""

    min_confidence: float = Field(default=contract.MIN_CONFIDENCE, ge=0, le=1, allow_inf_nan=False)
    max_faces: MaxFaces = None
    """With `faces=all`: most faces of an image, largest first."""
    rotation: contract.Rotation = contract.DEFAULT_LOOK.rotation
    """See `/api/ml/embed`."""
    detail: contract.Detail = contract.DEFAULT_LOOK.detail
    """See `/api/ml/embed`."""


class EnrolIn(DetectionIn):
    """Fields of an enrolment, beside its images."""

    subject: Subject | None = None
    """Who the face belongs to; without it each face is a subject of its own, named by its id.
    Control characters, invisible characters and spaces at the ends are refused."""
    faces: Literal["largest", "all", "single"] = "largest"
    """Which faces of an image to enrol; `single` refuses an image with several faces."""
    quality: Gate | None = None
    """Lowest quality, instead of that of the collection."""
    metadata: Metadata = Field(default_factory=dict)
    """Flat object of strings, numbers and booleans."""
    consent: SentConsent | None = None
    """What the subject has agreed to; kept with the subject, and replaces what is there. Needed
    where the collection has `requires_consent` and the subject has no valid one. An image that was
    enrolled before changes nothing: change the subject instead."""
    purpose: Text | None = None
    """Why the subject is enrolled; kept with the subject."""
    embedding: Embedding | None = None
    """One embedding instead of images, with `space`."""
    embeddings: Annotated[list[EmbeddingIn], Field(min_length=1, fail_fast=True)] | None = None
    """Several embeddings instead of images, with `space`."""
    space: Space | None = None
    """Embedding space of the embeddings."""


class SearchIn(DetectionIn):
    """Fields of a search, beside its image."""

    faces: Literal["largest", "all"] = "largest"
    """Which faces of the image to search for."""
    limit: int = Field(default=10, ge=1, le=MAX_MATCHES)
    """Most matches of a face."""
    min_similarity: Cosine | None = None
    """Lowest cosine similarity of a match; without it the collection's threshold."""
    target_fmr: float | None = Field(default=None, gt=0, lt=1, allow_inf_nan=False)
    """Wanted rate of false matches, instead of `min_similarity`; needs a calibrated model."""
    group_by: Literal["subject", "face"] = "subject"
    """`subject` returns the best face of each subject, `face` every face."""
    subject: Subject | None = None
    """Search among the faces of this subject only."""
    filter: Metadata = Field(default_factory=dict)
    """Metadata that a matching face must have, all of it."""
    embedding: Embedding | None = None
    """An embedding instead of an image, with `space`."""
    space: Space | None = None


class ClusterIn(Shape):
    """Parameters of a run of clustering."""

    threshold: Cosine | None = None
    """Lowest mean cosine similarity at which two clusters are merged; without it the
    collection's threshold."""


class MigrateIn(Shape):
    """A step of a move to another embedding space."""

    action: Literal["start", "rollback", "finish"] = "start"
    """`start` embeds every stored crop with the newest model, then switches searches to the new
    space. `rollback` returns to the old space. `finish` deletes the old space."""


class MigrationOut(Shape):
    """A move to another embedding space."""

    source: str
    target: str
    state: Literal["backfill", "verified", "switched", "failed"]
    total: int
    done: int
    detail: str
    """Why the move failed."""


class CollectionOut(Shape):
    """A collection."""

    name: str
    description: str
    keep: Keep
    quality: Gate
    retention_days: float | None
    match_threshold: float | None
    requires_consent: bool
    faces: int
    subjects: int
    space: str | None
    """Embedding space of its faces; null before the first face."""
    dimension: int | None
    migration: MigrationOut | None
    created_at: str
    updated_at: str


class CollectionAnswer(CollectionOut):
    """A collection as an answer."""

    request_id: str


class CollectionsOut(PageOut):
    """Collections, sorted by name."""

    collections: list[CollectionOut]


class EnrolledOut(Shape):
    """A face of an enrolment."""

    face_id: str
    subject: str
    index: int
    """Index of its image or embedding in the request, from 0."""
    duplicate: bool
    """Whether the same image was enrolled for this subject before; then nothing was written."""
    faces_found: int | None
    """Number of faces in the image, this one included; null for an embedding."""
    box: tuple[float, float, float, float] | None
    quality: QualityOut | None
    metadata: dict[str, Any]
    created_at: str


class RejectedOut(Shape):
    """An image, or a face of it, that was not enrolled."""

    index: int
    name: str | None
    """File name that was sent."""
    code: str
    detail: str
    reasons: list[str]
    """Why the quality of the face is too low."""
    box: tuple[float, float, float, float] | None


class EnrolOut(Shape):
    """Enrolled faces and rejected images."""

    request_id: str
    faces: list[EnrolledOut]
    rejected: list[RejectedOut]
    space: str | None


class FaceRecordOut(Shape):
    """An enrolled face."""

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


class FaceListOut(PageOut):
    """Enrolled faces, oldest first."""

    faces: list[FaceRecordOut]


class MatchOut(Shape):
    """An enrolled face that is similar to the searched one."""

    subject: str
    face_id: str
    similarity: float
    """Cosine similarity, -1 to 1."""
    metadata: dict[str, Any]


class SearchedOut(Shape):
    """A face of the probe and its matches, most similar first; empty without a match."""

    box: tuple[float, float, float, float] | None
    quality: QualityOut | None
    matches: list[MatchOut]


class SearchOut(Shape):
    """Faces of the probe and their matches."""

    request_id: str
    faces: list[SearchedOut]
    faces_found: int | None
    """Number of faces in the image; null for an embedding."""
    rotation: int | None
    """Degrees clockwise by which the image was rotated for detection; null for an embedding."""
    threshold: float
    space: str | None


class ReceiptOut(Shape):
    """What was deleted."""

    request_id: str
    receipt: str
    """Id of the entry in the audit log."""
    at: str
    faces: int
    vectors: int
    """Deleted vectors; more than faces while a collection moves to another space."""
    crops: int
    cached_answers: int
    job_results: int
    """Results of jobs about the faces; these images of the jobs end with the code `not_found`."""


class ClusterOut(Shape):
    """One identity."""

    cluster_id: str
    """Stays the same from run to run as long as most of its faces stay together."""
    size: int
    subjects: dict[str, int]
    """Number of its faces by subject."""
    faces: list[str]
    """Ids of at most 100 of its faces."""


class ProgressOut(Shape):
    """Faces of a run, and how many are done."""

    total: int
    done: int


class ClusterRunOut(Shape):
    """A run of clustering."""

    request_id: str
    run_id: str
    state: Literal["running", "done", "failed"]
    threshold: float
    progress: ProgressOut
    detail: str | None
    started_at: str
    finished_at: str | None


class ClustersOut(ClusterRunOut, PageOut):
    """The latest run, and the clusters of the latest finished one."""

    clusters: list[ClusterOut]
