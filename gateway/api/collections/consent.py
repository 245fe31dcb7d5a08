"""Consent and purpose as clients send and read them; moments as ISO 8601."""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from gateway.api.shapes import Shape
from gateway.collections.names import MAX_TEXT, short_text
from gateway.records.types import Consent

_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_FIRST: Final = datetime(1900, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)

Text = Annotated[str, AfterValidator(short_text), WithJsonSchema(_SCHEMA)]
"""A short text without control characters."""


def moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC, milliseconds."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _seconds(value: object) -> object:
    if not isinstance(value, str) or not 19 < len(value) <= 40:
        raise ValueError("a time is a text such as 2026-11-30T12:00:00Z")
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError("a time is a text such as 2026-11-30T12:00:00Z") from error
    if at.tzinfo is None:
        raise ValueError("the time has no zone; end it with Z for UTC")
    if not _FIRST <= at <= _LAST:
        raise ValueError("the time lies outside of the years 1900 to 9000")
    return at.timestamp()


Moment = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(moment, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time: seconds since 1970 within the gateway."""


class ConsentIn(Shape):
    """What the subject has agreed to."""

    reference: Text
    """Where it is written: the id of a form or record of yours, not the text itself."""
    given_at: Moment
    expires_at: Moment | None = None
    """When it ends; the faces expire then, unless the collection deletes them earlier."""
    withdrawn_at: Moment | None = None
    """When it was withdrawn; the faces expire then."""


SentConsent = Annotated[ConsentIn, WithJsonSchema(ConsentIn.model_json_schema())]
"""The schema is written out, because a query parameter cannot refer to another one."""


class ConsentOut(Shape):
    """What a subject has agreed to."""

    reference: str
    given_at: str
    expires_at: str | None
    withdrawn_at: str | None


def read_consent(fields: ConsentIn | None) -> Consent | None:
    """Return the record of a consent that was sent."""
    if fields is None:
        return None
    return Consent(fields.reference, fields.given_at, fields.expires_at, fields.withdrawn_at)


def consent_out(consent: Consent | None) -> ConsentOut | None:
    """Shape a consent."""
    if consent is None:
        return None
    expires, withdrawn = consent.expires_at, consent.withdrawn_at
    return ConsentOut(
        reference=consent.reference,
        given_at=moment(consent.given_at),
        expires_at=None if expires is None else moment(expires),
        withdrawn_at=None if withdrawn is None else moment(withdrawn),
    )
