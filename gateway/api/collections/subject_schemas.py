"""Shapes of the JSON that the subject routes take and return."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.api.collections.consent import ConsentOut, SentConsent, Text
from gateway.api.collections.schemas import Metadata, Subject
from gateway.api.pagination import PageOptions, PageOut
from gateway.api.shapes import Shape
from gateway.collections.names import short_text


def _words(text: str) -> str:
    return short_text(" ".join(text.split())) if text.strip() else ""


class SubjectListOptions(PageOptions):
    """Query parameters of the list of subjects."""

    q: Annotated[str, AfterValidator(_words), WithJsonSchema({"type": "string"})] = ""
    """Words that must all occur in the name, display name or external id; case and accents are
    ignored."""


class SubjectChange(Shape):
    """Fields of a subject's record to change; those left out do not change."""

    display_name: Text | None = None
    """Name for people to read; null removes it."""
    external_id: Subject | None = None
    """Id in another system; null removes it."""
    metadata: Metadata = Field(default_factory=dict)
    """Flat object of strings, numbers and booleans; replaces the previous one."""
    consent: SentConsent | None = None
    """What the subject has agreed to; replaces the previous one. With `withdrawn_at` it ends and
    the faces expire. null removes it, unless the collection has `requires_consent`."""
    purpose: Text | None = None
    """Why the subject is enrolled; null removes it."""


class SubjectOut(Shape):
    """A person whose faces are enrolled."""

    subject: str
    display_name: str | None
    external_id: str | None
    metadata: dict[str, Any]
    consent: ConsentOut | None
    purpose: str | None
    faces: int
    created_at: str
    updated_at: str


class SubjectAnswer(SubjectOut):
    """A subject as an answer."""

    request_id: str


class SubjectsOut(PageOut):
    """Subjects, sorted by name."""

    subjects: list[SubjectOut]
