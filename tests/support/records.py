"""Fixtures: an empty database of each kind, and records opened on it."""

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from gateway.records import clock
from gateway.records.database import sqlite_url
from gateway.records.store import RecordStore
from tests.support.postgres import find_binaries, private_postgres
from tests.support.prerequisites import is_missing


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL of our own, for the whole session."""
    if find_binaries() is None:
        is_missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with private_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "records.sqlite3")
    server: str = request.getfixturevalue("postgres")
    name = f"t{uuid.uuid4().hex}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
async def records(database_url: str) -> AsyncIterator[RecordStore]:
    """Migrated records."""
    store = await RecordStore.open(database_url)
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
