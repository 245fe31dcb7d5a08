"""A store that hangs or answers nonsense ends no request late, and is used again afterwards."""

import asyncio
import os
import signal
import time

import pytest
import pytest_asyncio

from benchmarks.failures.postgres import postgres
from benchmarks.failures.proxy import Proxy
from gateway.cache.base import CacheError
from gateway.cache.redis import RedisCache
from gateway.errors import StorageUnavailableError
from gateway.records import connections as connections_module
from gateway.records.connections import Connections
from gateway.records.database import Database
from gateway.vectors.edge import store as edge_module
from gateway.vectors.edge.store import EdgeVectorStore
from tests.support.collections import TUNING
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, post, serving
from tests.support.serving import free_ports

SOON = 0.5
PATIENCE = 20.0
NONSENSE = (b"\xff\xfe\xfd\r\n", b"*x\r\n", b"*1\r\n:7\r\n", b"$3\r\nab", b"*-9\r\n", b"\r\n" * 9)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server():
    """The port of a PostgreSQL, for the whole module: its files take seconds to make."""
    (port,) = free_ports(1)
    async with postgres(port):
        yield port


@pytest.fixture
async def hanging_database(server, monkeypatch):
    """The PostgreSQL behind a proxy, with the gateway's patience shortened."""
    monkeypatch.setattr(connections_module, "_TRANSACTION_SECONDS", SOON)
    (outside,) = free_ports(1)
    async with Proxy(outside, target_port=server) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{outside}/postgres"
        database = await Database.open(url, timeout_seconds=2 * SOON)
        yield database, proxy
        proxy.become("pass")
        await database.close()


async def test_a_database_that_hangs_is_given_up_in_time(hanging_database):
    database, proxy = hanging_database
    assert "PostgreSQL" in await database.health()
    proxy.become("hang")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StorageUnavailableError):
            await database.health()
    proxy.become("pass")
    assert "PostgreSQL" in await eventually(database.health)


async def test_a_transaction_that_hangs_is_cut(hanging_database):
    database, proxy = hanging_database
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StorageUnavailableError):
            await hang_within(database, proxy)
    proxy.become("pass")
    assert "PostgreSQL" in await eventually(database.health)


async def test_a_caller_that_gives_up_does_not_wait_for_a_database_that_hangs(
    hanging_database, monkeypatch
):
    database, proxy = hanging_database
    monkeypatch.setattr(connections_module, "_TRANSACTION_SECONDS", PATIENCE * 3)

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hang_within(database, proxy), SOON)


@pytest.mark.parametrize("mode", ["garbage", "flip"])
async def test_a_database_that_answers_nonsense_is_unavailable(hanging_database, mode):
    database, proxy = hanging_database
    proxy.become(mode)
    failures = 0
    for _ in range(5):
        try:
            await database.health()
        except StorageUnavailableError:
            failures += 1
    assert failures
    proxy.become("pass")
    assert "PostgreSQL" in await eventually(database.health)


async def test_a_driver_that_stumbles_over_an_old_connection_is_no_answer():
    class Stumbling:
        def connect(self):
            return self

        async def start(self):
            b"\xea".decode()

    with pytest.raises(ConnectionError):
        await Connections(connect_seconds=SOON).lend(Stumbling()).__aenter__()


async def hang_within(database, proxy):
    """Have the server hang in the middle of a transaction."""
    async with database.write() as connection:
        proxy.become("hang")
        await connection.exec_driver_sql("SELECT 1")


async def eventually(ask):
    """Ask until the store answers; connections that were cut are noticed when they are used."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return await ask()
        except StorageUnavailableError:
            assert time.monotonic() < until
            await asyncio.sleep(0.1)


async def test_a_vector_engine_that_hangs_is_refused_then_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(edge_module, "_SILENT_SECONDS", SOON)
    monkeypatch.setattr(edge_module, "_HANGING_SECONDS", 3 * SOON)
    store = await EdgeVectorStore.open(tmp_path / "vectors", TUNING, min_free_bytes=0)
    try:
        assert await store.collections() == ()
        first = store.engine_pid
        os.kill(first, signal.SIGSTOP)
        waiting = asyncio.create_task(store.collections())
        await asyncio.sleep(2 * SOON)
        with pytest.raises(StorageUnavailableError, match="has not answered for"):
            await store.collections()
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(StorageUnavailableError, match="engine ended"):
                await waiting
            assert await eventually(store.collections) == ()
        assert store.engine_pid != first
    finally:
        await store.close()


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_a_redis_that_answers_nonsense_is_a_miss(nonsense):
    async def answer(reader, writer):
        while await reader.read(4096):
            writer.write(nonsense)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cache = RedisCache(f"redis://127.0.0.1:{port}", ttl_seconds=60, timeout_seconds=1)
    try:
        for _ in range(4):
            with pytest.raises(CacheError):
                await cache.get("a" * 64, ["x"])
        with pytest.raises(CacheError):
            await cache.set("a" * 64, "x", b"one")
        assert await cache.health() is not None
    finally:
        await cache.close()
        server.close()


async def test_a_request_ends_at_its_deadline_whatever_a_store_does(tmp_path):
    async with serving(FakeInference(), home=tmp_path, request_timeout_seconds=1.5) as client:
        async with client.post("/api/collections", json={"name": "people"}) as response:
            assert response.status == 201
        engine = await an_engine(client)
        os.kill(engine, signal.SIGSTOP)
        try:
            async with asyncio.timeout(PATIENCE):
                for _ in range(2):
                    data = form(image=photo())
                    url = "/api/collections/people/search"
                    async with client.post(url, data=data) as response:
                        body = await response.json()
                    refused = response.status, body["code"]
                    assert refused in ((504, "timeout"), (503, "storage_unavailable"))
                status, _, _ = await post(client, "detect", form(image=photo()))
                assert status == 200
        finally:
            os.kill(engine, signal.SIGCONT)


async def an_engine(client) -> int:
    """Enrol until the engine has started, however late the machine is; returns its process."""
    until = time.monotonic() + 3 * PATIENCE
    while time.monotonic() < until:
        data = form(image=photo(), subject="anna", quality="off")
        async with client.post("/api/collections/people/faces", data=data) as response:
            enrolled = response.status in (200, 201)
        async with client.get("/api/health/ready") as response:
            detail = (await response.json())["parts"]["vectors"]["detail"]
        if enrolled and "process " in detail:
            return int(detail.partition("process ")[2].partition(",")[0])
        await asyncio.sleep(0.2)
    raise TimeoutError(detail)
