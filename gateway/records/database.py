"""Transactions of SQLite and PostgreSQL, bounded in time."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.circuit_breaker import CircuitBreaker, StateObserver
from gateway.deadline import seconds_allowed
from gateway.errors import InsufficientStorageError, StorageUnavailableError
from gateway.records.connections import Connections, name_garbage
from gateway.records.driver_errors import (
    RETRY_SECONDS,
    is_away,
    is_refused,
    translated,
    unavailable,
)
from gateway.records.engines import WRITES, parse_url, prepare_sqlite
from gateway.records.postgres_tls import encrypt
from gateway.records.revisions import bring_up_to_date
from gateway.tls import NO_FILES, TlsFiles

_POOL_SIZE = 8
TIMEOUT_SECONDS: Final = 5.0
"""Longest time for connecting, and for a transaction of a request, unless chosen otherwise."""
_LOG_BUSY_MILLISECONDS: Final = 200
Observer = Callable[[str, float, bool], None]
"""Called with an operation, its seconds and whether it succeeded."""


class Database:
    """An open database whose tables are up to date."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self._reads = engine
        self._writes = engine.execution_options(**{WRITES: True})
        # SQLite has one writer at a time and makes the others poll, so they queue here instead
        alone = engine.dialect.name == "sqlite"
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if alone else nullcontext()
        self._file = Path(engine.url.database) if alone and engine.url.database else None
        self._inode: tuple[int, int] | None = None
        self._timeout_seconds = timeout_seconds
        self._breaker = breaker
        self._connections = Connections(connect_seconds=timeout_seconds)
        self.observer: Observer = lambda operation, seconds, worked: None
        """Observer of each transaction."""

    @property
    def has_one_writer(self) -> bool:
        """Whether all processes that write wait for each other, as with SQLite."""
        return self._file is not None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        observer: StateObserver = lambda _: None,
        files: TlsFiles = NO_FILES,
    ) -> "Database":
        """Connect and migrate; of several processes that start at once, one migrates.

        Args:
            url: of SQLite or PostgreSQL.
            timeout_seconds: longest time for connecting, and for each transaction of a request.
            observer: of the circuit of a PostgreSQL.
            files: certificates of connections to PostgreSQL.

        Raises:
            ConfigurationError: a URL of another kind, credentials or a database that PostgreSQL
                does not know, no encryption as `read_encryption` asks for it.
            StorageUnavailableError: no database answers.
        """
        await bring_up_to_date(url, files=files)
        parsed, encryption = parse_url(url, files)
        if parsed.get_backend_name() == "sqlite":
            engine = create_async_engine(parsed, pool_size=_POOL_SIZE, max_overflow=0)
            prepare_sqlite(engine, busy_seconds=timeout_seconds)
            database = cls(engine, timeout_seconds=timeout_seconds)
        else:
            engine = create_async_engine(
                parsed,
                pool_size=_POOL_SIZE,
                max_overflow=_POOL_SIZE,
                pool_pre_ping=True,
                connect_args={"timeout": timeout_seconds},
            )
            encrypt(engine, encryption)
            breaker = CircuitBreaker(retry_seconds=RETRY_SECONDS, observer=observer)
            database = cls(engine, timeout_seconds=timeout_seconds, breaker=breaker)
        name_garbage(engine)
        database._inode = await asyncio.to_thread(_inode, database._file)
        return database

    async def health(self) -> str:
        """Read a row and name the database; raises StorageUnavailableError if that fails."""
        async with self._asking(probes=True), self._connections.lend(self._reads) as connection:
            revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        # SQLite would continue in a deleted file, whose data is lost when the process ends
        if await asyncio.to_thread(_inode, self._file) != self._inode:
            raise StorageUnavailableError(f"records: {self._file} was removed or replaced")
        name = "SQLite" if self._file is not None else "PostgreSQL"
        return f"{name}, tables {revision}"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that only reads."""
        with self._timed("read"):
            async with self._asking(), self._connections.lend(self._reads) as connection:
                yield connection

    @asynccontextmanager
    async def write(self, *, most_seconds: float = 0.0) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that writes: durable when the block ends, undone if it raises.

        most_seconds: for one that touches many rows.
        """
        with self._timed("write"):
            async with (
                self._asking(most_seconds=most_seconds),
                self._turn,
                self._connections.lend(self._writes) as connection,
                connection.begin(),
            ):
                yield connection

    async def empty_log(self) -> None:
        """Move what SQLite has logged into its file, and empty the log.

        Rows that were deleted since the last time leave the disk by this: until then their bytes
        lie in the file, and in the log from when they were written. What another process reads
        just now may stay until the next time. PostgreSQL cleans up by itself.
        """
        if self._file is None:
            return
        async with self._asking(), self._turn, self._connections.lend(self._reads) as connection:
            # not within a transaction, which would read the log itself
            driver: Any = (await connection.get_raw_connection()).driver_connection
            busy = round(self._timeout_seconds * 1000)
            # writers wait meanwhile, so it does not wait long for readers of other processes
            await driver.execute(f"PRAGMA busy_timeout={_LOG_BUSY_MILLISECONDS}")
            try:
                await driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                await driver.execute(f"PRAGMA busy_timeout={busy}")

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.settle()
        await self._reads.dispose()

    @asynccontextmanager
    async def _asking(
        self, *, most_seconds: float = 0.0, probes: bool = False
    ) -> AsyncIterator[None]:
        """Bound a transaction of a request in time, and translate errors.

        A PostgreSQL that did not answer several times is not asked until a probe finds it back.
        """
        if self._breaker is not None and not (probes or self._breaker.allows_call()):
            raise unavailable("PostgreSQL did not answer just before")
        allowed = seconds_allowed(max(most_seconds, self._timeout_seconds))
        scope = asyncio.timeout(allowed)
        try:
            async with scope:
                yield
        except IntegrityError:
            self._note(is_away=False)
            raise
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            away = not is_refused(error) and (not isinstance(error, DBAPIError) or is_away(error))
            # a request that had little time left does not tell
            if not (scope.expired() and allowed is not None and allowed < self._timeout_seconds):
                self._note(is_away=away)
            if scope.expired():
                raise unavailable(f"no answer within {allowed:.1f} s") from error
            raise translated(error) from error
        self._note(is_away=False)

    def _note(self, *, is_away: bool) -> None:
        if self._breaker is None:
            return
        if is_away:
            self._breaker.failed()
        else:
            self._breaker.succeeded()

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        # including the wait for a turn and for a connection
        started, worked = time.monotonic(), True
        try:
            yield
        except (StorageUnavailableError, InsufficientStorageError):
            worked = False
            raise
        finally:
            self.observer(operation, time.monotonic() - started, worked)


def _inode(file: Path | None) -> tuple[int, int] | None:
    """Identify the file that a path names; None if there is none."""
    try:
        status = None if file is None else file.stat()
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)
