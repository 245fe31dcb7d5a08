"""Answers by `Idempotency-Key`."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import ColumnElement, delete, func, insert, not_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import ConflictError
from gateway.records import clock
from gateway.records.database import Database
from gateway.records.subjects import living
from gateway.records.tables import ANSWERED_FACES, FACES, IDEMPOTENCY
from gateway.records.types import IDEMPOTENCY_SECONDS, Answered, KeptAnswer

_LONGEST_REQUEST_SECONDS: Final = 900.0
"""A request that claimed its key longer ago was interrupted: keys are claimed when the body is
complete, and the deadline of what follows is much shorter."""

_MOST_OWED: Final = 1000
"""Keys that are remembered while the database is away; older ones are released by their age."""


class IdempotencyRecords:
    """Answers by tenant and key, kept for a day."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owed: dict[tuple[str, str], tuple[bool, float]] = {}
        """Keys that could not be given back: whether even if kept, and when that was tried."""

    async def begin(self, *, tenant: str, key: str, fingerprint: str) -> Answered | None:
        """Claim a key; returns its answer if it is taken.

        An answer that names an expired face has no body.
        """
        oldest = clock.now() - IDEMPOTENCY_SECONDS
        mine = (IDEMPOTENCY.c.tenant == tenant) & (IDEMPOTENCY.c.key == key)
        row = {
            "tenant": tenant,
            "key": key,
            "fingerprint": fingerprint,
            "created_at": clock.now(),
        }
        try:
            async with self._database.write() as connection:
                interrupted = IDEMPOTENCY.c.status.is_(None) & (
                    IDEMPOTENCY.c.created_at < clock.now() - _LONGEST_REQUEST_SECONDS
                )
                await connection.execute(
                    delete(IDEMPOTENCY).where((IDEMPOTENCY.c.created_at < oldest) | interrupted)
                )
                owed = dict(self._owed)
                for (its_tenant, its_key), (even_if_kept, tried_at) in owed.items():
                    # a claim that came later is another request's
                    its = _of(its_tenant, its_key, even_if_kept=even_if_kept)
                    its &= IDEMPOTENCY.c.created_at <= tried_at
                    await connection.execute(delete(IDEMPOTENCY).where(its))
                await connection.execute(insert(IDEMPOTENCY).values(row))
            for each in owed:
                self._owed.pop(each, None)
        except IntegrityError:
            async with self._database.read() as connection:
                found = (await connection.execute(select(IDEMPOTENCY).where(mine))).mappings()
                taken = found.first()
        else:
            return None
        if taken is None:
            # released between the two statements
            return await self.begin(tenant=tenant, key=key, fingerprint=fingerprint)
        body = taken["body"]
        if body is not None and await self._names_the_gone(tenant=tenant, key=key):
            body = None
        return Answered(taken["fingerprint"], taken["status"], body)

    async def _names_the_gone(self, *, tenant: str, key: str) -> bool:
        """Whether a kept answer names a face that no longer exists."""
        query = (
            select(func.count())
            .select_from(ANSWERED_FACES.join(FACES, ANSWERED_FACES.c.face_id == FACES.c.id))
            .where(ANSWERED_FACES.c.tenant == tenant, ANSWERED_FACES.c.key == key)
            .where(not_(living(clock.now())))
        )
        async with self._database.read() as connection:
            return bool((await connection.execute(query)).scalar_one())

    async def finish(self, kept: KeptAnswer) -> None:
        """Keep an answer for a day, or until a face that it names is deleted; raises as `keep`."""
        async with self._database.write() as connection:
            await keep(connection, kept)

    async def naming(self, tenant: str, face_ids: Collection[str]) -> tuple[float, ...]:
        """Return when answers were kept that name one of these faces."""
        query = (
            select(IDEMPOTENCY.c.created_at)
            .select_from(
                ANSWERED_FACES.join(
                    IDEMPOTENCY,
                    (ANSWERED_FACES.c.tenant == IDEMPOTENCY.c.tenant)
                    & (ANSWERED_FACES.c.key == IDEMPOTENCY.c.key),
                )
            )
            .where(ANSWERED_FACES.c.tenant == tenant, IDEMPOTENCY.c.body.is_not(None))
            .where(ANSWERED_FACES.c.face_id.in_(sorted(face_ids)))
            .distinct()
        )
        async with self._database.read() as connection:
            return tuple((await connection.execute(query)).scalars())

    async def forget_old(self) -> int:
        """Remove answers whose day is over, also while nobody sends a key; returns their number."""
        old = IDEMPOTENCY.c.created_at < clock.now() - IDEMPOTENCY_SECONDS
        async with self._database.write() as connection:
            return (await connection.execute(delete(IDEMPOTENCY).where(old))).rowcount

    async def give_back(self, *, tenant: str, key: str, even_if_kept: bool) -> None:
        """Release the key of a failed request.

        even_if_kept: what the request did is undone, so that a kept answer is wrong. Without it an
        answer stays that was kept before the request learned that its transaction had succeeded.

        Raises StorageUnavailableError if the records are away; the next request with a key, whose
        ever it is, then gives this one back, too.
        """
        mine = _of(tenant, key, even_if_kept=even_if_kept)
        tried_at = clock.now()
        try:
            async with self._database.write() as connection:
                await connection.execute(delete(IDEMPOTENCY).where(mine))
        except BaseException:
            self._owed[tenant, key] = (even_if_kept, tried_at)
            while len(self._owed) > _MOST_OWED:
                del self._owed[next(iter(self._owed))]
            raise

    async def give_back_unfinished(self) -> None:
        """At start: release the keys of requests that a crash interrupted.

        Where other gateways may be answering requests, only of those that take too long to be
        under way.
        """
        query = delete(IDEMPOTENCY).where(IDEMPOTENCY.c.status.is_(None))
        if not self._database.has_one_writer:
            started_before = clock.now() - _LONGEST_REQUEST_SECONDS
            query = query.where(IDEMPOTENCY.c.created_at < started_before)
        async with self._database.write() as connection:
            await connection.execute(query)


def _of(tenant: str, key: str, *, even_if_kept: bool) -> ColumnElement[bool]:
    """Return the condition for a key, or only for one without an answer."""
    mine = (IDEMPOTENCY.c.tenant == tenant) & (IDEMPOTENCY.c.key == key)
    return mine if even_if_kept else mine & IDEMPOTENCY.c.status.is_(None)


async def keep(connection: AsyncConnection, kept: KeptAnswer) -> None:
    """Keep an answer as part of a transaction: what it tells of and the answer exist or neither.

    Raises ConflictError if the request took so long that its key was released.
    """
    mine = (
        (IDEMPOTENCY.c.tenant == kept.tenant)
        & (IDEMPOTENCY.c.key == kept.key)
        & (IDEMPOTENCY.c.fingerprint == kept.fingerprint)
        & IDEMPOTENCY.c.status.is_(None)
    )
    values = {"status": kept.status, "body": kept.body}
    written = await connection.execute(update(IDEMPOTENCY).where(mine).values(values))
    if written.rowcount == 0:
        raise ConflictError("the request took so long that its idempotency key was released")
    named = [
        {"tenant": kept.tenant, "key": kept.key, "face_id": each}
        for each in sorted(set(kept.face_ids))
    ]
    if named:
        await connection.execute(insert(ANSWERED_FACES), named)
