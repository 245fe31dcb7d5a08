"""Connections, transactions, migrations and errors of SQLite and PostgreSQL."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.circuit_breaker import CircuitBreaker, StateObserver
from gateway.deadline import seconds_allowed
from gateway.errors import ConfigurationError, InsufficientStorageError, StorageUnavailableError
from gateway.records.connections import Connections, name_garbage
from gateway.records.encrypted import Encryption, encrypt, explain, read_encryption
from gateway.tls import NO_FILES, TlsFiles

_MIGRATIONS = Path(__file__).resolve().parent / "migrations" / "versions"
_WRITES = "aurum_writes"
_POOL_SIZE = 8
TIMEOUT_SECONDS: Final = 5.0
"""Longest time for connecting, and for a transaction of a request, unless chosen otherwise."""
_LOG_BUSY_MILLISECONDS: Final = 200
_MIGRATION_SECONDS: Final = 30.0
"""How long a process that starts waits for another one that migrates a SQLite file."""
_RETRY_SECONDS = 2
_MIGRATION_LOCK: Final = 0x6175_7275_6D01
"""Key of the PostgreSQL advisory lock under which migrations run."""
_OLDEST_BACK: Final = "0006"
"""The first tables of which migrations lead back."""
log = logging.getLogger(__name__)
Observer = Callable[[str, float, bool], None]
"""Called with an operation, its seconds and whether it succeeded."""
_WRONG: Final = ("28", "3D")
"""Classes of PostgreSQL's codes for credentials and databases that do not exist."""
_AWAY: Final = ("08", "53", "57")
"""Classes of PostgreSQL's codes for a server that is away, starting, ending or out of resources."""
_REFUSED: Final = ("22", "23", "54")
"""Classes of PostgreSQL's codes for values that it does not store."""
_DISK_FULL = ("database or disk is full", "No space left on device", "could not extend file")


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
        self._writes = engine.execution_options(**{_WRITES: True})
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
        parsed, encryption = _with_driver(url), None
        if parsed.get_backend_name() != "sqlite":
            parsed, encryption = read_encryption(parsed, files)
        await _migrate(parsed, encryption)
        if parsed.get_backend_name() == "sqlite":
            engine = create_async_engine(parsed, pool_size=_POOL_SIZE, max_overflow=0)
            _prepare_sqlite(engine, busy_seconds=timeout_seconds)
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
            breaker = CircuitBreaker(retry_seconds=_RETRY_SECONDS, observer=observer)
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
            raise _unavailable("PostgreSQL did not answer just before")
        allowed = seconds_allowed(max(most_seconds, self._timeout_seconds))
        scope = asyncio.timeout(allowed)
        try:
            async with scope:
                yield
        except IntegrityError:
            self._note(is_away=False)
            raise
        except (DBAPIError, PoolTimeoutError, OSError) as error:
            is_away = not is_refused(error) and (
                not isinstance(error, DBAPIError) or _is_away(error)
            )
            # a request that had little time left does not tell
            if not (scope.expired() and allowed is not None and allowed < self._timeout_seconds):
                self._note(is_away=is_away)
            if scope.expired():
                raise _unavailable(f"no answer within {allowed:.1f} s") from error
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


def sqlite_url(file: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def _with_driver(url: str) -> URL:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+asyncpg")
    message = f"AURUM_DATABASE_URL: {backend} is not supported, use postgresql:// or sqlite://"
    raise ConfigurationError(message)


def _prepare_sqlite(engine: AsyncEngine, *, busy_seconds: float) -> None:
    milliseconds = round(busy_seconds * 1000)

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        # transactions begin when `_begin` says so, not when the driver guesses a write
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={milliseconds}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        # deleted data is overwritten, so that no deleted crop stays in the file
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        # a reader that becomes a writer fails instead of waiting, so take the lock first
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def engine_without_limits(url: str, files: TlsFiles = NO_FILES) -> AsyncEngine:
    """Make an engine for work that takes as long as it takes; it keeps no connection.

    Raises ConfigurationError as `Database.open`.
    """
    parsed, encryption = _with_driver(url), None
    if parsed.get_backend_name() != "sqlite":
        parsed, encryption = read_encryption(parsed, files)
    return _without_limits(parsed, encryption)


def _without_limits(url: URL, encryption: Encryption | None) -> AsyncEngine:
    engine = create_async_engine(url, poolclass=NullPool)
    encrypt(engine, encryption)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, busy_seconds=_MIGRATION_SECONDS)
    return engine


@asynccontextmanager
async def writing_alone(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction beside which no other one migrates; raises as `Database.open`."""
    try:
        async with engine.execution_options(**{_WRITES: True}).begin() as connection:
            if engine.dialect.name == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await connection.execute(lock, {"key": _MIGRATION_LOCK})
            yield connection
    except DBAPIError as error:
        if _code(error).startswith(_WRONG):
            raise ConfigurationError(f"AURUM_DATABASE_URL: {error.orig}") from error
        raise explain(error) or translated(error) from error
    except OSError as error:
        raise explain(error) or translated(error) from error


async def downgrade(url: str, revision: str, *, files: TlsFiles = NO_FILES) -> None:
    """Take the tables back to those of a migration, while no gateway or worker runs.

    Raises ConfigurationError for a revision that is not among those before, and if rows would be
    lost; otherwise as `Database.open`.
    """

    def change(connection: Connection) -> None:
        present = revision_of(connection)
        if present is None or not _OLDEST_BACK <= revision <= present:
            message = f"the tables are {present}: choose one of {_OLDEST_BACK} to {present}"
            raise ConfigurationError(message)
        from gateway.records import migrate

        migrate.downgrade(connection, revision)

    await _change_tables(engine_without_limits(url, files), change)


async def _migrate(url: URL, encryption: Encryption | None) -> None:
    """Bring the tables up to date; raises as `Database.open`."""
    # no limits: another process may migrate first, and a migration may take long
    await _change_tables(_without_limits(url, encryption), _upgrade)


async def _change_tables(engine: AsyncEngine, change: Callable[[Connection], None]) -> None:
    try:
        async with writing_alone(engine) as connection:
            await connection.run_sync(change)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    revision, newest = revision_of(connection), newest_revision()
    if revision == newest:
        return
    if revision is not None and revision > newest:
        _check_understood(connection, revision, newest)
        return
    # Alembic takes 11 MB and a fifth of a second, which most starts do not need
    from gateway.records.migrate import upgrade

    upgrade(connection)


def _check_understood(connection: Connection, revision: str, newest: str) -> None:
    """Raise ConfigurationError unless tables of a later release can be used by this one."""
    there = inspect(connection).has_table("schema_support")
    oldest = connection.scalar(text("SELECT oldest_code FROM schema_support")) if there else None
    if oldest is None or oldest > newest:
        message = (
            f"AURUM_DATABASE_URL: the tables are those of a later release ({revision}), which"
            f" this one ({newest}) cannot use; `aurum records downgrade` of that release takes"
            " them back"
        )
        raise ConfigurationError(message)


def revision_of(connection: Connection) -> str | None:
    """Read the revision of the tables; None if there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def newest_revision() -> str:
    """Find the last migration by the names of their files: `r0004_subjects.py` is 0004."""
    return max(path.name[1:5] for path in _MIGRATIONS.glob("r[0-9][0-9][0-9][0-9]_*.py"))


def translated(error: Exception) -> InsufficientStorageError | StorageUnavailableError:
    """Return the error of ours that an error of a driver means."""
    detail = str(error.orig if isinstance(error, DBAPIError) else error) or type(error).__name__
    if any(words in detail for words in _DISK_FULL):
        return InsufficientStorageError("the disk of the records is full")
    if isinstance(error, OSError) or isinstance(getattr(error, "orig", None), OSError):
        # its text has the address of the server, which is not for callers
        log.warning("the records cannot be reached", extra={"reason": detail})
        return _unavailable("the database cannot be reached")
    return _unavailable(detail)


def _unavailable(detail: str) -> StorageUnavailableError:
    return StorageUnavailableError(f"records: {detail}", retry_after_seconds=_RETRY_SECONDS)


def _code(error: DBAPIError) -> str:
    """Return PostgreSQL's code of an error; empty where there is none."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def is_refused(error: BaseException) -> bool:
    """Whether a transaction failed because of its values, and would fail with them again."""
    if isinstance(error, StorageUnavailableError):
        error = error.__cause__ or error
    if isinstance(error, DBAPIError):
        by_driver = isinstance(getattr(error.orig, "__cause__", None), ValueError | TypeError)
        refused = isinstance(error, DataError | IntegrityError)
        return refused or by_driver or _code(error).startswith(_REFUSED)
    return isinstance(error, StatementError | ValueError | TypeError | OverflowError)


def _is_away(error: DBAPIError) -> bool:
    """Whether an error says that the server is away, rather than that a statement failed."""
    code = _code(error)
    return error.connection_invalidated or code.startswith(_AWAY) or not code
