"""The lease of this process: while it lasts, no other process takes over its unfinished work.

While a process carries out something that others have to wait for, it holds a lease: a row with a
time by the clock of the database, which it renews every second or two. What belongs to a process
without a lease may be taken over. Such a process may still live, paused or cut off. So whoever
takes over changes the row that the other one has to find unchanged in the transaction in which it
ends its work.
"""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    and_,
    delete,
    exists,
    insert,
    literal_column,
    not_,
    update,
)

from gateway.errors import AurumError
from gateway.records.database import Database
from gateway.records.tables import PROCESSES

LEASE_SECONDS: Final = 6.0
"""Duration of a lease; after it, others may take over the work of a killed process."""
_LOOKS: Final = 6
"""Number of checks within the duration of a lease."""
_FRESH: Final = 2 / 3
"""The share of its time from which on a lease need not be renewed."""
_ENOUGH: Final = 1 / 3
"""The share with which work begins while the lease is being renewed."""
_FORGOTTEN_SECONDS: Final = 86_400.0
# not `now()`, which is when the transaction began
_IN_POSTGRESQL: Final = "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
_IN_SQLITE: Final = "((julianday('now') - 2440587.5) * 86400.0)"
log = logging.getLogger(__name__)


class Presence:
    """The lease of this process, held while anything in it needs one.

    Every method raises StorageUnavailableError where the database cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self.id = uuid.uuid4().hex
        """Names this process in what it begins."""
        self.lease_seconds = LEASE_SECONDS
        self._database = database
        self._users = 0
        self._renewing = asyncio.Lock()
        self._until = -math.inf
        """When the lease ends at the earliest, on the monotonic clock."""

    @asynccontextmanager
    async def lasting(self) -> AsyncIterator[None]:
        """Hold the lease until the end of the block, as long as `keep_up` runs."""
        self._users += 1
        try:
            await self._freshen()
            yield
        finally:
            self._users -= 1

    async def keep_up(self) -> None:
        """Renew the lease while it is needed."""
        while True:
            await asyncio.sleep(self.lease_seconds / _LOOKS)
            if self._users:
                try:
                    await self._freshen()
                except AurumError as error:
                    log.warning("the lease was not renewed", extra={"reason": error.detail})

    async def leave(self) -> None:
        """Give the lease up: what this process has begun and not ended may be taken over."""
        self._until = -math.inf
        async with self._database.write() as connection:
            await connection.execute(delete(PROCESSES).where(PROCESSES.c.id == self.id))

    async def forget_gone(self) -> int:
        """Remove rows of processes that were gone a day ago; returns their number."""
        gone = PROCESSES.c.lease_until < database_time(self._database) - _FORGOTTEN_SECONDS
        async with self._database.write() as connection:
            return (await connection.execute(delete(PROCESSES).where(gone))).rowcount

    async def _freshen(self) -> None:
        if self._renewing.locked() and self._left(_ENOUGH):
            # a database that hangs keeps one call waiting
            return
        async with self._renewing:
            if not self._left(_FRESH):
                await self._renew()

    def _left(self, share: float) -> bool:
        """Whether so much of the lease is left."""
        return self._until - time.monotonic() > self.lease_seconds * share

    async def _renew(self) -> None:
        asked_at = time.monotonic()
        row = {"lease_until": database_time(self._database) + self.lease_seconds}
        mine = PROCESSES.c.id == self.id
        async with self._database.write() as connection:
            renewed = await connection.execute(update(PROCESSES).where(mine).values(row))
            if renewed.rowcount == 0:
                await connection.execute(insert(PROCESSES).values(id=self.id, **row))
        self._until = asked_at + self.lease_seconds


def is_gone(owner: Column[Any], database: Database) -> ColumnElement[bool]:
    """Whether the process that a row names has no lease; false for a row that names none.

    Releases with tables before 0011 name none.
    """
    runs = PROCESSES.c.lease_until > database_time(database)
    lives = exists().where(PROCESSES.c.id == owner, runs).correlate(owner.table)
    return and_(owner.is_not(None), not_(lives))


def database_time(database: Database) -> ColumnElement[float]:
    """Seconds since 1970 by the clock of the database, when the statement is carried out."""
    now = _IN_SQLITE if database.has_one_writer else _IN_POSTGRESQL
    return literal_column(now, Double())
