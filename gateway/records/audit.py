"""The audit log: lines are appended to a chain and never changed.

A line is in the database, and in the chain, when `add` returns. Lines of requests that arrive
while a transaction runs are written together by the next one, so that a busy gateway makes a few
transactions a second, not one for each request.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError, StorageUnavailableError
from gateway.records.audit_chain import FIRST, hash_of
from gateway.records.database import TIMEOUT_SECONDS, Database
from gateway.records.tables import AUDIT
from gateway.records.types import AuditLine

_MOST_NUMBER: Final = (1 << 63) - 1
"""That a column of numbers holds; a cursor may claim more."""
_MOST_CHARACTERS: Final = 64
"""Of a column; callers choose the ids of their requests."""
_LINES_AT_ONCE: Final = 256
_READ_AT_ONCE: Final = 1000
_EXPIRED_AT_ONCE: Final = 20_000
_EXPIRY_SECONDS: Final = 60.0
_LOCK: Final = 0x6175_7275_6D02
"""Key of the PostgreSQL advisory lock under which the chain grows; SQLite has one writer anyway."""
_SETTLE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 2
_LINE_FIELDS: Final = tuple(field.name for field in fields(AuditLine))
EXPIRE: Final = "expire_audit"
"""The action of a line which says that older lines have expired."""
log = logging.getLogger(__name__)


class ChainKeys(Protocol):
    """The secrets under which the chain is hashed; see `audit_keys.AuditKeys`."""

    @property
    def current(self) -> tuple[str, bytes]:
        """Id and key for new lines."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """The last line of the chain: its number (0 without a line), hash, time, key."""

    line: int
    hash: str
    at: float
    key_id: str | None


class AuditRecords:
    """Audit lines of all tenants: who did what to how many faces."""

    def __init__(self, database: Database, keys: ChainKeys | None = None) -> None:
        """Append to the chain of a database; without keys its hashes are plain SHA-256."""
        self._database = database
        self._keys = keys
        self._tasks = BackgroundTasks()
        self._waiting: list[tuple[AuditLine, asyncio.Future[None]]] = []
        self._is_writing = False

    async def add(self, line: AuditLine) -> None:
        """Append a line; it is durable when this returns.

        Raises StorageUnavailableError or InsufficientStorageError. A caller that gives up does not
        stop its line from being written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(_look_at)
        self._waiting.append((line, written))
        if not self._is_writing:
            self._is_writing = True
            # a task of its own: it writes the lines of other requests, too
            self._tasks.start("audit", self._write_waiting())
        try:
            # what was done is recorded also where the deadline of its request has passed
            async with asyncio.timeout(2 * TIMEOUT_SECONDS):
                await asyncio.shield(written)
        except TimeoutError as error:
            raise _unavailable("the audit line was not written in time") from error

    async def settle(self) -> None:
        """Wait a moment for lines that are being written."""
        await self._tasks.settle(seconds=_SETTLE_SECONDS)

    async def latest(self, *, tenant: str, limit: int) -> Sequence[AuditLine]:
        """Return the newest lines of a tenant, newest first."""
        return [line for _, line in await self.page(tenant=tenant, limit=limit, before=None)]

    async def page(
        self, *, tenant: str, limit: int, before: int | None
    ) -> Sequence[tuple[int, AuditLine]]:
        """Return numbers and lines of a tenant, newest first, older than the number `before`."""
        query = (
            select(AUDIT).where(AUDIT.c.tenant == tenant).order_by(AUDIT.c.id.desc()).limit(limit)
        )
        if before is not None:
            query = query.where(AUDIT.c.id < min(max(before, 0), _MOST_NUMBER))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [(row["id"], AuditLine(**{k: row[k] for k in _LINE_FIELDS})) for row in rows]

    async def count(self) -> int:
        """Return the number of lines."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(AUDIT))).scalar_one()

    async def head(self) -> Head:
        """Return the last line of the chain."""
        async with self._database.read() as connection:
            return await _head(connection)

    async def rows(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        tenant: str | None = None,
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Return whole lines in the order of the chain, with their hashes.

        since, until: seconds since 1970, the second excluded. tenant: None for all.
        """
        query = select(AUDIT).order_by(AUDIT.c.id).limit(_READ_AT_ONCE)
        if since is not None:
            query = query.where(AUDIT.c.at >= since)
        if until is not None:
            query = query.where(AUDIT.c.at < until)
        if tenant is not None:
            query = query.where(AUDIT.c.tenant == tenant)
        after = -1
        while True:
            async with self._database.read() as connection:
                page = (await connection.execute(query.where(AUDIT.c.id > after))).mappings().all()
            for row in page:
                yield dict(row)
            if not page:
                return
            after = page[-1]["id"]

    async def expire(self, *, before: float, at: float) -> int:
        """Delete the oldest lines, all from before a time; returns how many there were.

        A line that is appended first says so and holds the hash of the last one of them, with
        which the rest of the chain begins.
        """
        removed = 0
        while count := await self._expire_some(before=before, at=at):
            removed += count
        return removed

    async def _expire_some(self, *, before: float, at: float) -> int:
        async with self._database.write(most_seconds=_EXPIRY_SECONDS) as connection:
            await _lock(connection)
            head = await _head(connection)
            kept = select(func.min(AUDIT.c.id)).where(AUDIT.c.at >= before)
            first_kept = (await connection.execute(kept)).scalar()
            over = AUDIT.c.id < (head.line + 1 if first_kept is None else first_kept)
            query = select(AUDIT.c.id, AUDIT.c.hash).where(over).order_by(AUDIT.c.id)
            found = (await connection.execute(query.limit(_EXPIRED_AT_ONCE))).all()
            if not found:
                return 0
            last = found[-1]
            line = AuditLine(
                at=at,
                tenant="",
                actor="retention",
                action=EXPIRE,
                collection=None,
                receipt=str(last.id),
                counts={"lines": len(found)},
                request_id=None,
            )
            expiry = {"expired_through": last.id, "expired_hash": last.hash}
            await self._append(connection, [_row(line) | expiry], head)
            await connection.execute(delete(AUDIT).where(AUDIT.c.id <= last.id))
        return len(found)

    async def _write_waiting(self) -> None:
        """Write what waits, and what comes meanwhile, until nothing is left."""
        try:
            while self._waiting:
                batch = self._waiting[:_LINES_AT_ONCE]
                del self._waiting[:_LINES_AT_ONCE]
                failure = await self._write([line for line, _ in batch])
                for _, written in batch:
                    if written.done():
                        continue
                    if failure is None:
                        written.set_result(None)
                    else:
                        written.set_exception(failure)
        finally:
            self._is_writing = False
            for _, written in self._waiting:
                written.cancel()
            self._waiting.clear()

    async def _write(self, lines: Sequence[AuditLine]) -> AurumError | None:
        try:
            async with self._database.write() as connection:
                await _lock(connection)
                head = await _head(connection)
                await self._append(connection, [_row(line) for line in lines], head)
        except AurumError as error:
            return error
        except IntegrityError:
            # its text would show the line
            log.exception("the audit log refused a line")
            return _unavailable("the audit log refused a line")
        return None

    async def _append(
        self, connection: AsyncConnection, rows: Sequence[dict[str, Any]], head: Head
    ) -> None:
        key_id, key = (None, None) if self._keys is None else self._keys.current
        number, previous = head.line, head.hash
        for row in rows:
            number += 1
            row |= {"id": number, "key_id": key_id, "prev": previous}
            row["hash"] = previous = hash_of(row, key)
        await connection.execute(insert(AUDIT), rows)


def _row(line: AuditLine) -> dict[str, Any]:
    return {
        "at": line.at,
        "tenant": line.tenant,
        "actor": line.actor[:_MOST_CHARACTERS],
        "action": line.action,
        "collection": line.collection,
        "receipt": line.receipt,
        "counts": dict(line.counts),
        "request_id": line.request_id and line.request_id[:_MOST_CHARACTERS],
        "outcome": line.outcome,
        "expired_through": None,
        "expired_hash": None,
    }


async def _lock(connection: AsyncConnection) -> None:
    """Keep other processes from appending until the transaction ends."""
    if connection.dialect.name != "postgresql":
        return
    # a gateway that is stopped while it holds the lock must not stop the others
    await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '3s'"))
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


async def _head(connection: AsyncConnection) -> Head:
    columns = (AUDIT.c.id, AUDIT.c.hash, AUDIT.c.at, AUDIT.c.key_id)
    query = select(*columns).order_by(AUDIT.c.id.desc()).limit(1)
    row = (await connection.execute(query)).first()
    return Head(0, FIRST, 0.0, None) if row is None else Head(row.id, row.hash, row.at, row.key_id)


def _look_at(written: asyncio.Future[None]) -> None:
    """Fetch a failure whose caller has gone, so that asyncio does not report it as lost."""
    if not written.cancelled():
        written.exception()


def _unavailable(detail: str) -> StorageUnavailableError:
    return StorageUnavailableError(f"records: {detail}", retry_after_seconds=_RETRY_SECONDS)
