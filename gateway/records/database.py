"""Connections, transactions, migrations and errors of SQLite and PostgreSQL."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, NullPool, event, inspect, text
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.concurrency import BackgroundTasks
from gateway.errors import ConfigurationError, InsufficientStorageError, StorageUnavailableError

_MIGRATIONS = Path(__file__).resolve().parent / "migrations" / "versions"
_WRITES = "aurum_writes"
_BUSY_SECONDS = 5.0
"""How long a transaction waits for another process's in SQLite."""
_STARTING_BUSY_SECONDS = 60.0
"""The same at a start, while another process migrates the tables."""
_CONNECT_SECONDS = 5.0
"""How long a transaction waits for a connection that works."""
_TRANSACTION_SECONDS = 60.0
"""How long a transaction may take; a server that hangs never ends one by itself."""
_CLOSING_SECONDS = 5.0
_POOL_SIZE = 8
_RETRY_SECONDS = 2
_MIGRATION_LOCK: Final = 0x6175_7275_6D01
"""Key of the PostgreSQL advisory lock under which migrations run."""
log = logging.getLogger(__name__)
Observer = Callable[[str, float, bool], None]
"""Called with an operation, its seconds and whether it succeeded."""
_DISK_FULL = ("database or disk is full", "No space left on device", "could not extend file")


class Database:
    """An open database whose tables are up to date."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reads = engine
        self._writes = engine.execution_options(**{_WRITES: True})
        # SQLite has one writer at a time and makes the others poll, so they queue here instead
        alone = engine.dialect.name == "sqlite"
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if alone else nullcontext()
        self._file = Path(engine.url.database) if alone and engine.url.database else None
        self._inode: tuple[int, int] | None = None
        self._tasks = BackgroundTasks()
        self.observer: Observer = lambda operation, seconds, worked: None
        """Observer of each transaction."""

    @classmethod
    async def open(cls, url: str) -> "Database":
        """Connect and migrate; of several processes that start at once, one migrates.

        Raises ConfigurationError for a URL of another kind, StorageUnavailableError where no
        database answers.
        """
        parsed = _with_driver(url)
        await _migrate(parsed)
        if parsed.get_backend_name() == "sqlite":
            engine = create_async_engine(parsed, pool_size=_POOL_SIZE, max_overflow=0)
            _prepare_sqlite(engine, busy_seconds=_BUSY_SECONDS)
        else:
            # a new connection, and the question whether an old one still works
            limits = {"timeout": _CONNECT_SECONDS, "command_timeout": _TRANSACTION_SECONDS}
            engine = create_async_engine(
                parsed,
                pool_size=_POOL_SIZE,
                max_overflow=_POOL_SIZE,
                pool_pre_ping=True,
                connect_args=limits,
            )
        _name_garbage(engine)
        database = cls(engine)
        database._inode = await asyncio.to_thread(_inode, database._file)
        return database

    async def health(self) -> str:
        """Read a row and name the database; raises StorageUnavailableError if that fails."""
        async with _in_our_words(), self._connected(self._reads) as connection:
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
            async with _in_our_words(), self._connected(self._reads) as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that writes: durable when the block ends, undone if it raises."""
        with self._timed("write"):
            async with (
                self._turn,
                _in_our_words(),
                self._connected(self._writes) as connection,
                connection.begin(),
            ):
                yield connection

    async def close(self) -> None:
        """Close all connections."""
        await self._tasks.settle(seconds=_CLOSING_SECONDS)
        await self._reads.dispose()

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for a transaction of limited time.

        Whoever gives up leaves nothing behind that waits for a server which hangs: its connection
        is cut, which ends the transaction on both sides.
        """
        connection = await self._connect(engine)
        driver = (await connection.get_raw_connection()).driver_connection
        cut = getattr(driver, "terminate", lambda: None)
        overdue = asyncio.get_running_loop().call_later(_TRANSACTION_SECONDS, cut)
        try:
            yield connection
        except asyncio.CancelledError:
            cut()
            raise
        finally:
            # as the engine's own context does it: a cancelled caller does not stop it
            closing = self._tasks.detach("records-close", connection.close())
            await asyncio.shield(closing)
            overdue.cancel()

    async def _connect(self, engine: AsyncEngine) -> AsyncConnection:
        """Take a connection of the pool that works; raises StorageUnavailableError in time."""
        connection = engine.connect()
        starting: asyncio.Future[object] = asyncio.ensure_future(_start(connection))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.shield(starting)
        except BaseException as error:
            # nobody waits for it to end: the driver's own cleaning-up may hang, too
            self._tasks.detach("records-connect", _abandon(connection, starting))
            if not isinstance(error, TimeoutError):
                raise
            raise StorageUnavailableError(
                "records: the database does not answer", retry_after_seconds=_RETRY_SECONDS
            ) from error
        return connection

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


async def _migrate(url: URL) -> None:
    """Bring the tables up to date, however long that takes."""
    engine = create_async_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, busy_seconds=_STARTING_BUSY_SECONDS)
    try:
        writing = engine.execution_options(**{_WRITES: True})
        async with _in_our_words(), writing.begin() as connection:
            if engine.dialect.name == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await connection.execute(lock, {"key": _MIGRATION_LOCK})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


async def _start(connection: AsyncConnection) -> None:
    await connection.start()


async def _abandon(connection: AsyncConnection, starting: "asyncio.Future[object]") -> None:
    """Give up connecting, and close the connection if it came about after all."""
    starting.cancel()
    await asyncio.wait({starting})
    if not starting.cancelled() and starting.exception() is None:
        await connection.close()


def _name_garbage(engine: AsyncEngine) -> None:
    """Treat an answer on which the driver stumbles as one of a database that is not there."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def _rename(context: ExceptionContext) -> None:
        error = context.original_exception
        known = (DBAPIError, context.dialect.loaded_dbapi.Error, OSError)
        prepared = context.execution_context is not None or context.statement is None
        if isinstance(error, Exception) and not isinstance(error, known) and prepared:
            log.error("the database answered garbage", exc_info=error)
            context.is_disconnect = True
            raise StorageUnavailableError(
                "records: the database answered nonsense", retry_after_seconds=_RETRY_SECONDS
            ) from error


def _prepare_sqlite(engine: AsyncEngine, *, busy_seconds: float) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        # transactions begin when `_begin` says so, not when the driver guesses a write
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={round(busy_seconds * 1000)}")
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


def _upgrade(connection: Connection) -> None:
    if _revision(connection) == _newest_revision():
        return
    # Alembic takes 11 MB and a fifth of a second, which most starts do not need
    from gateway.records.migrate import upgrade

    upgrade(connection)


def _revision(connection: Connection) -> str | None:
    """Read the revision of the tables; None if there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _newest_revision() -> str:
    """Find the last migration by the names of their files: `r0004_subjects.py` is 0004."""
    return max(path.name[1:5] for path in _MIGRATIONS.glob("r[0-9][0-9][0-9][0-9]_*.py"))


@asynccontextmanager
async def _in_our_words() -> AsyncIterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise _translated(str(error.orig)) from error
    except (OSError, PoolTimeoutError) as error:
        raise _translated(str(error) or type(error).__name__) from error


def _translated(detail: str) -> InsufficientStorageError | StorageUnavailableError:
    if any(words in detail for words in _DISK_FULL):
        return InsufficientStorageError("the disk of the records is full")
    return StorageUnavailableError(f"records: {detail}", retry_after_seconds=_RETRY_SECONDS)
