"""SQLAlchemy's engines of SQLite and PostgreSQL, also those for work without a time limit."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gateway.errors import ConfigurationError
from gateway.records.driver_errors import code_of, translated
from gateway.records.postgres_tls import Encryption, encrypt, explain, read_encryption
from gateway.tls import NO_FILES, TlsFiles

WRITES: Final = "aurum_writes"
"""The execution option of a transaction that writes."""
_MIGRATION_SECONDS: Final = 30.0
"""How long a process that starts waits for another one that migrates a SQLite file."""
_MIGRATION_LOCK: Final = 0x6175_7275_6D01
"""Key of the PostgreSQL advisory lock under which migrations run."""
_WRONG: Final = ("28", "3D")
"""Classes of PostgreSQL's codes for credentials and databases that do not exist."""


def sqlite_url(file: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def parse_url(url: str, files: TlsFiles) -> tuple[URL, Encryption | None]:
    """Read a database's URL, and what encrypts its connections.

    Raises ConfigurationError for another kind of database, or as `read_encryption`.
    """
    parsed = with_driver(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed, None
    return read_encryption(parsed, files)


def with_driver(url: str) -> URL:
    """Name the driver in a URL; raises ConfigurationError for another kind of database."""
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+asyncpg")
    message = f"AURUM_DATABASE_URL: {backend} is not supported, use postgresql:// or sqlite://"
    raise ConfigurationError(message)


def prepare_sqlite(engine: AsyncEngine, *, busy_seconds: float) -> None:
    """Set what each connection and transaction of a SQLite file begins with."""
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
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def engine_without_limits(url: str, files: TlsFiles = NO_FILES) -> AsyncEngine:
    """Make an engine for work that takes as long as it takes; it keeps no connection.

    Raises ConfigurationError as `Database.open`.
    """
    parsed, encryption = parse_url(url, files)
    engine = create_async_engine(parsed, poolclass=NullPool)
    encrypt(engine, encryption)
    if engine.dialect.name == "sqlite":
        prepare_sqlite(engine, busy_seconds=_MIGRATION_SECONDS)
    return engine


@asynccontextmanager
async def writing_alone(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction beside which no other one migrates; raises as `Database.open`."""
    try:
        async with engine.execution_options(**{WRITES: True}).begin() as connection:
            if engine.dialect.name == "postgresql":
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await connection.execute(lock, {"key": _MIGRATION_LOCK})
            yield connection
    except DBAPIError as error:
        if code_of(error).startswith(_WRONG):
            raise ConfigurationError(f"AURUM_DATABASE_URL: {error.orig}") from error
        raise explain(error) or translated(error) from error
    except OSError as error:
        raise explain(error) or translated(error) from error
