"""Answers by `Idempotency-Key`.

A request has a key until it ends. If its process is gone before that, a repetition takes the key
over, with a token of its own. Answers are kept only under the token of the request that writes
them, in the transaction of its work: a request that lost its key in this way does nothing.
"""

import asyncio
import logging
import uuid
from collections.abc import Collection
from typing import Final

from sqlalchemy import ColumnElement, delete, func, insert, not_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import ConflictError
from gateway.records import clock
from gateway.records.database import Database
from gateway.records.presence import Presence, is_gone
from gateway.records.subjects import living
from gateway.records.tables import ANSWERED_FACES, FACES, IDEMPOTENCY
from gateway.records.types import IDEMPOTENCY_SECONDS, Answered, Claim, KeptAnswer

_LONGEST_REQUEST_SECONDS: Final = 900.0
"""A request that took its key longer ago was interrupted: keys are taken when the body is
complete, and the deadline of what follows is much shorter. This frees keys of releases that hold
no lease, and keys that could not be given back."""
_MOST_OWED: Final = 1000
"""Keys that are remembered while the database is away; older ones are released by their age."""
_MOST_WAITING: Final = 64
_RETRY_AFTER_SECONDS: Final = 1
log = logging.getLogger(__name__)


class IdempotencyRecords:
    """Answers by tenant and key, kept for a day."""

    def __init__(self, database: Database, presence: Presence) -> None:
        self._database = database
        self._presence = presence
        self._owed: dict[str, Claim] = {}
        """Keys that could not be given back, by their tokens."""
        self.waiting = asyncio.Semaphore(_MOST_WAITING)
        """Bounds requests that wait for another one with their key: each holds its body."""

    async def begin(
        self, *, tenant: str, key: str, fingerprint: str, again: bool = False
    ) -> Claim | Answered:
        """Take a key, or return its answer, whose status is None while its request runs.

        Holds within `Presence.lasting` of this process. A key whose request ended with its process
        is taken over, for the same fingerprint only. An answer that names an expired face has no
        body. again: the key was taken a moment ago, so look before writing.
        """
        claim = Claim(tenant, key, uuid.uuid4().hex)
        while again or not await self._insert(claim, fingerprint):
            again = False
            found = await self._look(claim)
            if found is None:
                # released meanwhile
                continue
            answered, token = found
            if token is None or answered.fingerprint != fingerprint:
                return answered
            if not await self._take_over(claim, token):
                # another one was faster, or the process came back
                return answered
            log.warning("a request is carried out again: its process is gone")
            return claim
        return claim

    async def _insert(self, claim: Claim, fingerprint: str) -> bool:
        """Take a key that is free."""
        now = clock.now()
        row = {
            "tenant": claim.tenant,
            "key": claim.key,
            "fingerprint": fingerprint,
            "created_at": now,
            "owner": self._presence.id,
            "token": claim.token,
        }
        over = IDEMPOTENCY.c.created_at < now - IDEMPOTENCY_SECONDS
        over |= _UNFINISHED & (IDEMPOTENCY.c.created_at < now - _LONGEST_REQUEST_SECONDS)
        owed = dict(self._owed)
        try:
            async with self._database.write() as connection:
                await connection.execute(delete(IDEMPOTENCY).where(over))
                for each in owed.values():
                    await connection.execute(delete(IDEMPOTENCY).where(_held(each)))
                await connection.execute(insert(IDEMPOTENCY).values(row))
        except IntegrityError:
            return False
        except BaseException:
            # it may have been committed nevertheless
            self._owe(claim)
            raise
        for token in owed:
            self._owed.pop(token, None)
        return True

    async def _look(self, claim: Claim) -> tuple[Answered, str | None] | None:
        """Return the answer of a key, and the token of a request whose process is gone."""
        columns = (
            IDEMPOTENCY.c.fingerprint,
            IDEMPOTENCY.c.status,
            IDEMPOTENCY.c.body,
            IDEMPOTENCY.c.token,
        )
        is_left = (_UNFINISHED & is_gone(IDEMPOTENCY.c.owner, self._database)).label("is_left")
        async with self._database.read() as connection:
            rows = await connection.execute(select(*columns, is_left).where(_row(claim)))
            row = rows.first()
        if row is None:
            return None
        body = row.body
        if body is not None and await self._names_the_gone(claim):
            body = None
        return Answered(row.fingerprint, row.status, body), row.token if row.is_left else None

    async def _take_over(self, claim: Claim, token: str) -> bool:
        """Take the key of a request whose process is gone; of two that try, one succeeds."""
        # the token, because the lease of whoever was faster may be newer than what this one sees
        same = _row(claim) & _UNFINISHED & (IDEMPOTENCY.c.token == token)
        values = {
            "owner": self._presence.id,
            "token": claim.token,
            "created_at": clock.now(),
        }
        query = (
            update(IDEMPOTENCY)
            .where(same, is_gone(IDEMPOTENCY.c.owner, self._database))
            .values(values)
        )
        try:
            async with self._database.write() as connection:
                return (await connection.execute(query)).rowcount == 1
        except BaseException:
            self._owe(claim)
            raise

    async def _names_the_gone(self, claim: Claim) -> bool:
        """Whether a kept answer names a face that no longer exists."""
        query = (
            select(func.count())
            .select_from(ANSWERED_FACES.join(FACES, ANSWERED_FACES.c.face_id == FACES.c.id))
            .where(ANSWERED_FACES.c.tenant == claim.tenant, ANSWERED_FACES.c.key == claim.key)
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

    async def give_back(self, claim: Claim) -> None:
        """Release the key of a failed request, if it still has it.

        An answer stays that was kept before the request learned that its transaction had succeeded.

        Raises StorageUnavailableError if the records are away; the next request with a key, whose
        ever it is, then gives this one back, too.
        """
        try:
            async with self._database.write() as connection:
                await connection.execute(delete(IDEMPOTENCY).where(_held(claim)))
        except BaseException:
            self._owe(claim)
            raise

    def _owe(self, claim: Claim) -> None:
        """Remember a key that the records may still have, to be given back later."""
        self._owed[claim.token] = claim
        while len(self._owed) > _MOST_OWED:
            del self._owed[next(iter(self._owed))]

    async def give_back_unfinished(self) -> None:
        """At start: release the keys of requests that a crash interrupted.

        Where other gateways may be answering requests, only of those that take too long to be
        under way; what was interrupted a moment ago is taken over when it is repeated.
        """
        query = delete(IDEMPOTENCY).where(_UNFINISHED)
        if not self._database.has_one_writer:
            started_before = clock.now() - _LONGEST_REQUEST_SECONDS
            query = query.where(IDEMPOTENCY.c.created_at < started_before)
        async with self._database.write() as connection:
            await connection.execute(query)


_UNFINISHED: Final[ColumnElement[bool]] = IDEMPOTENCY.c.status.is_(None)


def _row(claim: Claim) -> ColumnElement[bool]:
    return (IDEMPOTENCY.c.tenant == claim.tenant) & (IDEMPOTENCY.c.key == claim.key)


def _held(claim: Claim) -> ColumnElement[bool]:
    """The condition that a request has its key and no answer."""
    return _row(claim) & _UNFINISHED & (IDEMPOTENCY.c.token == claim.token)


async def keep(connection: AsyncConnection, kept: KeptAnswer) -> None:
    """Keep an answer as part of a transaction: what it tells of and the answer exist or neither.

    Raises ConflictError if the request has lost its key: it took too long, or its process was
    paused or cut off for longer than its lease.
    """
    claim = kept.claim
    values = {"status": kept.status, "body": kept.body}
    written = await connection.execute(update(IDEMPOTENCY).where(_held(claim)).values(values))
    if written.rowcount == 0:
        raise ConflictError(
            "the request took so long that its idempotency key was released",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )
    named = [
        {"tenant": claim.tenant, "key": claim.key, "face_id": each}
        for each in sorted(set(kept.face_ids))
    ]
    if named:
        await connection.execute(insert(ANSWERED_FACES), named)
