"""JSON in and out of the routes of subjects."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.api.collections.schemas import Metadata, PageOptions, Subject, _text_schema
from gateway.api.shapes import Shape
from gateway.collections.names import MAX_TEXT, short_text

Text = Annotated[str, AfterValidator(short_text), _text_schema(MAX_TEXT)]


def _words(text: str) -> str:
    return short_text(" ".join(text.split())) if text.strip() else ""


class SubjectListOptions(PageOptions):
    """Query parameters of the list of subjects."""

    q: Annotated[str, AfterValidator(_words), WithJsonSchema({"type": "string"})] = ""
    """Words that must all be in the name, display name or external id. Case and accents do not
    count."""


class SubjectChange(Shape):
    """What to change of a subject's record; fields left out stay."""

    display_name: Text | None = None
    """What people call it; null: nothing."""
    external_id: Subject | None = None
    """What another system calls it; null: nothing."""
    metadata: Metadata = Field(default_factory=dict)
    """Flat: texts, numbers, true or false; replaces all that was there."""


class SubjectOut(Shape):
    """Whom faces show."""

    subject: str
    display_name: str | None
    external_id: str | None
    metadata: dict[str, Any]
    faces: int
    created_at: str
    updated_at: str


class SubjectAnswer(SubjectOut):
    """A subject, as an answer of its own."""

    request_id: str


class SubjectsOut(Shape):
    """Subjects by name."""

    request_id: str
    subjects: list[SubjectOut]
    next_cursor: str | None
