"""Whether new faces may be written: erasures, the do-not-enrol list, consent."""

from collections.abc import Sequence

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records import clock
from gateway.records.consents import refuse_withdrawn, under_consent
from gateway.records.erasures import hold_collection, refuse_erased
from gateway.records.subjects import make_records
from gateway.records.tables import FACES
from gateway.records.types import FaceRecord, Terms

_CLAIMS_AT_ONCE = 500


async def is_outdated(connection: AsyncConnection, collection_id: str, terms: Terms) -> bool:
    """Whether the do-not-enrol list has changed; from now on, it stays as it is."""
    refusals = await hold_collection(connection, collection_id)
    return terms.refusals is not None and refusals not in (None, terms.refusals)


async def admit(
    connection: AsyncConnection, faces: Sequence[FaceRecord], terms: Terms
) -> list[FaceRecord]:
    """Make the subjects' records of new faces; returns the faces with the dates of consents.

    Raises EnrolmentRefusedError or ConsentRequiredError where the terms do not allow it.
    """
    await refuse_erased(connection, faces, terms.begun_at)
    await refuse_withdrawn(connection, faces, terms)
    await make_records(connection, faces)
    dated = await under_consent(connection, faces, terms)
    await _release(connection, dated)
    return dated


async def _release(connection: AsyncConnection, faces: Sequence[FaceRecord]) -> None:
    """Release the claims of expired faces that new faces need."""
    claims = sorted({face.claim for face in faces if face.claim is not None})
    for start in range(0, len(claims), _CLAIMS_AT_ONCE):
        query = update(FACES).where(
            FACES.c.collection_id == faces[0].collection_id,
            FACES.c.claim.in_(claims[start : start + _CLAIMS_AT_ONCE]),
            FACES.c.expires_at <= clock.now(),
        )
        await connection.execute(query.values(claim=None))
