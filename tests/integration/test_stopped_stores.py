"""Stores that hang (SIGSTOP) cost a request a bounded time, and are used again when they go on."""

import asyncio
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from gateway.collections.factory import tuning_of
from gateway.deadline import Deadline, forget_current
from gateway.errors import StorageUnavailableError
from gateway.records.database import Database
from gateway.settings import Settings
from gateway.vectors.base import VectorCollection
from gateway.vectors.edge.store import EdgeVectorStore

LIMIT = 1.0
CLOSING = 2.0
"""Seconds that the driver takes to give up a connection."""
AT_LOAD = 5.0


@contextmanager
def stopped(pids):
    found = list(pids)
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in found:
            os.kill(pid, signal.SIGCONT)


def server_pids(url: str) -> list[int]:
    folder = Path(url.rpartition("host=")[2])
    server = int((folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    return [server, *(child.pid for child in psutil.Process(server).children())]


async def ask(database: Database, *, seconds: float = 60.0) -> float:
    """Run a transaction as a request does; returns how long it took, also if it failed."""
    Deadline.after(seconds).make_current()
    started = time.monotonic()
    try:
        async with database.write() as connection:
            await connection.execute(text("SELECT 1"))
    except StorageUnavailableError:
        return time.monotonic() - started
    finally:
        forget_current()
    return 0.0


async def test_a_stopped_postgresql_costs_little_and_after_a_few_requests_nothing(postgres):
    states = []
    database = await Database.open(postgres, timeout_seconds=LIMIT, observer=states.append)
    try:
        assert await ask(database) == 0
        with stopped(server_pids(postgres)):
            waits = await asyncio.gather(*(ask(database) for _ in range(3)))
            assert all(LIMIT * 0.9 < wait < LIMIT + CLOSING + AT_LOAD for wait in waits)
            assert states == [True]
            with pytest.raises(StorageUnavailableError, match="did not answer just before"):
                async with database.read():
                    pass
        # the next probe, of a request or of readiness, finds it back
        async with asyncio.timeout(60):
            while states == [True]:
                try:
                    await database.health()
                except StorageUnavailableError:
                    await asyncio.sleep(0.1)
        assert states == [True, False]
        async with asyncio.timeout(60):
            while await ask(database):
                await asyncio.sleep(0.1)
    finally:
        await database.close()


async def test_a_locked_sqlite_file_costs_a_request_no_more_than_the_limit(tmp_path):
    url = f"sqlite:///{tmp_path}/records.sqlite3"
    holder = await Database.open(url)
    database = await Database.open(url, timeout_seconds=LIMIT)
    try:
        async with holder.write():
            assert LIMIT * 0.5 < await ask(database) < LIMIT + AT_LOAD
        assert await ask(database) == 0
    finally:
        await database.close()
        await holder.close()


async def test_a_stopped_vector_engine_costs_a_request_its_own_deadline(tmp_path):
    store = await EdgeVectorStore.open(tmp_path, tuning_of(Settings()), min_free_bytes=0)
    collection = VectorCollection("t", "people", "a" * 16)
    try:
        await store.create(collection, dimension=8)
        with stopped([store.engine_pid]):
            Deadline.after(0.1).make_current()
            with pytest.raises(StorageUnavailableError, match="does not answer"):
                await store.count(collection)
            forget_current()
        assert await store.count(collection) == 0
    finally:
        await store.close()
