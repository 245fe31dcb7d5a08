"""Fixtures: an empty database of each kind, and records opened on it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import asyncpg
import pytest

from gateway.records import clock
from gateway.records.engines import sqlite_url
from gateway.records.store import RecordStore
from tests.support.postgres import find_binaries, private_postgres
from tests.support.prerequisites import is_missing

Result = TypeVar("Result")

_EMPTIED: dict[str, list[str]] = {}
"""Databases that no test uses now, by the one that they are copies of."""
_CUT_OFF = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# without foreign keys, whose order this need not know
_DELETE_ALL = """
SET session_replication_role = replica;
DO $$
DECLARE each record;
BEGIN
    FOR each IN SELECT tablename AS name FROM pg_tables
        WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    LOOP
        EXECUTE format('DELETE FROM %I', each.name);
        EXECUTE format('ALTER TABLE %I ENABLE TRIGGER USER', each.name);
    END LOOP;
    FOR each IN SELECT sequencename AS name FROM pg_sequences WHERE schemaname = 'public'
    LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', each.name);
    END LOOP;
END $$
"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL of our own, for the whole session."""
    if find_binaries() is None:
        is_missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with private_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres(postgres: str) -> str:
    """The name of a database with empty tables, from which others are copied."""
    return _run_apart(_make_template(postgres))


async def _make_template(server: str) -> str:
    name = await _create_database(server)
    store = await RecordStore.open(_of_database(server, name))
    await store.close()
    return name


async def _create_database(server: str, *, template: str = "template1") -> str:
    """Make a database, empty or a copy; its name."""
    name = f"t{uuid.uuid4().hex}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    finally:
        await connection.close()
    return name


async def _empty(url: str) -> None:
    """Delete all rows of a database, whoever still uses it."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_CUT_OFF)
        await connection.execute(_DELETE_ALL)
    finally:
        await connection.close()


def _of_database(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")


def _run_apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end in a loop of its own: the test's may be running on this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@cache
def _migrated_sqlite() -> bytes:
    """A SQLite file with empty tables."""
    with TemporaryDirectory(prefix="aurum-records-") as folder:
        path = Path(folder) / "records.sqlite3"

        async def make() -> None:
            store = await RecordStore.open(sqlite_url(path))
            await store.close()

        _run_apart(make())
        return path.read_bytes()


def add_migrated_sqlite(path: Path) -> None:
    """Write a SQLite file with empty tables: migrating each anew takes four times as long."""
    path.write_bytes(_migrated_sqlite())


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "records.sqlite3")
    server: str = request.getfixturevalue("postgres")
    return _of_database(server, await _create_database(server))


@pytest.fixture(params=["sqlite", "postgresql"])
async def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a database with empty tables.

    A database of PostgreSQL is emptied after the test and used again: making one takes nine times
    as long, and removing its files at the end as long again.
    """
    if request.param == "sqlite":
        add_migrated_sqlite(tmp_path / "records.sqlite3")
        yield sqlite_url(tmp_path / "records.sqlite3")
        return
    server: str = request.getfixturevalue("postgres")
    template: str = request.getfixturevalue("migrated_postgres")
    free = _EMPTIED.setdefault(template, [])
    name = free.pop() if free else await _create_database(server, template=template)
    yield _of_database(server, name)
    await _empty(_of_database(server, name))
    free.append(name)


@pytest.fixture
async def records(migrated_url: str) -> AsyncIterator[RecordStore]:
    """Migrated records."""
    store = await RecordStore.open(migrated_url)
    try:
        yield store
    finally:
        await store.close()


class SetClock:
    """A clock of the records that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = time.time()

    def now(self) -> float:
        """Seconds since 1970."""
        return self.at

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.at += seconds


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Records go by this clock, so that no test waits for a face to be over."""
    made = SetClock()
    monkeypatch.setattr(clock, "now", made.now)
    return made
