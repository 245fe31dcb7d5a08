"""Shapes of the JSON that the routes about people's rights take and return."""

from typing import Annotated

from pydantic import Field

from gateway.api.collections.consent import Text
from gateway.api.collections.schemas import Cosine, DetectionIn, Name, Subject
from gateway.api.collections.subject_schemas import SubjectOut
from gateway.api.pagination import PageOut
from gateway.api.shapes import Shape
from gateway.collections.people import MOST_PEOPLE

_REASON = "the person asked for it"


class FindIn(DetectionIn):
    """Whom to find: a name, or the largest face of an image."""

    subject: Subject | None = None
    """Name of the subject, instead of an image."""
    min_similarity: Cosine | None = None
    """Lowest cosine similarity; without it the threshold of each collection."""
    limit: int = Field(default=10, ge=1, le=100)
    """Most candidates of each collection."""


class TargetIn(Shape):
    """A subject of a collection."""

    collection: Name
    subject: Subject


Targets = Annotated[list[TargetIn], Field(min_length=1, max_length=MOST_PEOPLE)]


class ExportIn(Shape):
    """Whose data to export."""

    people: Targets
    """The subjects that are this person."""
    embeddings: bool = False
    """Add the numbers that the faces are compared by."""


class EraseIn(Shape):
    """Whose data to erase."""

    people: Targets
    """The subjects that are this person."""
    do_not_enrol: bool = False
    """Put their faces on the do-not-enrol lists of their collections first."""
    reason: Text = _REASON
    """Kept with the entries of the lists."""


class RefuseIn(DetectionIn):
    """Whom not to enrol: the largest face of an image, or the faces of a subject."""

    subject: Subject | None = None
    """A subject of the collection, instead of an image."""
    reason: Text = _REASON
    """Kept with the entry."""
    keep_crop: bool = False
    """Keep the aligned face, encrypted, so that the entry moves to a newer embedding model."""


class PersonOut(SubjectOut):
    """A subject that may be the person."""

    collection: str
    similarity: float | None
    """Cosine similarity of its most similar face; null where a name was asked for."""


class PeopleOut(Shape):
    """Subjects that may be the person, most similar first."""

    request_id: str
    people: list[PersonOut]
    not_searched: list[str]
    """Collections of an embedding model that is not in service."""


class ErasedOut(Shape):
    """What was deleted of a subject."""

    collection: str
    subject: str
    receipt: str
    """Id of the entry in the audit log."""
    faces: int
    vectors: int
    crops: int
    cached_answers: int
    job_results: int
    do_not_enrol: list[str]
    """Ids of entries that were added to the list of the collection."""


class RemainOut(Shape):
    """What is left after an erasure, and for how long."""

    what: str
    until: str | None
    """Null where it depends on something that the service does not know."""
    why: str


class ErasureOut(Shape):
    """Receipt of an erasure."""

    request_id: str
    receipt: str
    """Id of the entry in the audit log."""
    at: str
    erased: list[ErasedOut]
    remains: list[RemainOut]


class RefusalOut(Shape):
    """An entry of a do-not-enrol list."""

    entry_id: str
    reason: str
    created_at: str
    created_by: str
    space: str
    """Embedding space of the entry."""
    has_crop: bool
    """Whether it can move to another embedding space."""
    compared: bool
    """Whether new faces are compared with it. False if no embedding model in service makes its
    space: add the face again."""


class RefusalsAnswer(Shape):
    """Entries that were added."""

    request_id: str
    entries: list[RefusalOut]


class RefusalAnswer(RefusalOut):
    """An entry that was removed."""

    request_id: str


class RefusalsOut(PageOut):
    """Entries of a do-not-enrol list, oldest first."""

    entries: list[RefusalOut]
