"""Consents of subjects: kept in their records, and obeyed by the dates of their faces.

A face expires when the retention of its collection or the consent of its subject ends, whichever is
first. So an ended consent needs no rule of its own: what holds for an expired face holds at once,
and the retention task removes the data.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, case, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import ConsentRequiredError
from gateway.records import clock
from gateway.records.tables import FACES, SUBJECTS
from gateway.records.types import Consent, FaceRecord, Terms

_COLUMNS = (
    SUBJECTS.c.consent_reference,
    SUBJECTS.c.consent_given_at,
    SUBJECTS.c.consent_expires_at,
    SUBJECTS.c.consent_withdrawn_at,
)


def consent_row(consent: Consent | None) -> dict[str, Any]:
    """Return the columns of a consent."""
    return {
        "consent_reference": None if consent is None else consent.reference,
        "consent_given_at": None if consent is None else consent.given_at,
        "consent_expires_at": None if consent is None else consent.expires_at,
        "consent_withdrawn_at": None if consent is None else consent.withdrawn_at,
        "consent_ends_at": None if consent is None else consent.ends_at,
    }


def consent_of(row: Mapping[Any, Any]) -> Consent | None:
    """Return the consent that a row of subjects has."""
    if row["consent_reference"] is None:
        return None
    return Consent(
        row["consent_reference"],
        row["consent_given_at"],
        row["consent_expires_at"],
        row["consent_withdrawn_at"],
    )


async def refuse_withdrawn(
    connection: AsyncConnection, faces: Sequence[FaceRecord], terms: Terms
) -> None:
    """Raise ConsentRequiredError for a consent that was withdrawn, as long as that is known.

    For new faces of a collection, before their subjects' records are renewed.
    """
    if terms.consent is None:
        return
    names = sorted({face.subject for face in faces})
    query = select(SUBJECTS.c.name).where(
        SUBJECTS.c.collection_id == faces[0].collection_id,
        SUBJECTS.c.name.in_(names),
        SUBJECTS.c.consent_reference == terms.consent.reference,
        SUBJECTS.c.consent_withdrawn_at.is_not(None),
    )
    name = await connection.scalar(query.limit(1))
    if name is not None:
        raise ConsentRequiredError(f"the consent of {name!r} was withdrawn")


async def under_consent(
    connection: AsyncConnection, faces: Sequence[FaceRecord], terms: Terms
) -> list[FaceRecord]:
    """Keep consent and purpose with the subjects of new faces; date the faces accordingly.

    The transaction has locked the subjects' records. Raises ConsentRequiredError for a consent that
    has ended, or where the terms require one and there is none.
    """
    collection_id, at = faces[0].collection_id, clock.now()
    names = sorted({face.subject for face in faces})
    mine = and_(SUBJECTS.c.collection_id == collection_id, SUBJECTS.c.name.in_(names))
    rows = (await connection.execute(select(SUBJECTS.c.name, *_COLUMNS).where(mine))).mappings()
    held = {row["name"]: consent_of(row) for row in rows}
    valid = {name: _valid(name, held.get(name), terms, at=at) for name in names}
    values: dict[str, Any] = {} if terms.purpose is None else {"purpose": terms.purpose}
    if terms.consent is not None:
        values |= consent_row(terms.consent)
    if values:
        await connection.execute(update(SUBJECTS).where(mine).values(updated_at=at, **values))
    if terms.consent is not None:
        ends_at = terms.consent.ends_at
        await date_faces(connection, collection_id, names, ends_at=ends_at, at=at)
    return [_dated(face, valid[face.subject]) for face in faces]


async def date_faces(
    connection: AsyncConnection,
    collection_id: str,
    names: Collection[str],
    *,
    ends_at: float | None,
    at: float,
) -> None:
    """Let the faces of subjects expire with their consent; those that have expired stay so."""
    mine = and_(
        FACES.c.collection_id == collection_id,
        FACES.c.subject.in_(sorted(names)),
        or_(FACES.c.expires_at.is_(None), FACES.c.expires_at > at),
    )
    expires_at: Any = FACES.c.kept_until
    if ends_at is not None:
        expires_at = case((FACES.c.kept_until < ends_at, FACES.c.kept_until), else_=ends_at)
    await connection.execute(update(FACES).where(mine).values(expires_at=expires_at))


def _valid(name: str, held: Consent | None, terms: Terms, *, at: float) -> Consent | None:
    """Return the consent under which a subject is enrolled."""
    consent = terms.consent or held
    if consent is None:
        if terms.requires_consent:
            message = f"the collection enrols nobody without consent; send one for {name!r}"
            raise ConsentRequiredError(message)
        return None
    if consent.ends_at is not None and consent.ends_at <= at:
        raise ConsentRequiredError(f"the consent of {name!r} has ended")
    return consent


def _dated(face: FaceRecord, consent: Consent | None) -> FaceRecord:
    ends = [face.expires_at, None if consent is None else consent.ends_at]
    return replace(face, expires_at=min((at for at in ends if at is not None), default=None))
