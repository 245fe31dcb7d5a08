"""A broken home of vectors or records shows in readiness by name, and faces are found without."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import psutil
import pytest

from gateway.monitoring.probes import ComponentProbes
from gateway.vectors.edge.protocol import MANIFEST
from tests.contract.test_records import newest_revision
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, post, serving
from tests.support.postgres import find_binaries, private_postgres
from tests.support.prerequisites import is_missing

ROUTE = "/api/collections/people/faces"


async def readiness(client: aiohttp.ClientSession) -> dict[str, dict[str, str]]:
    """The parts; the service stays ready whatever they do."""
    async with client.get("/api/health/ready") as response:
        body = await response.json()
    assert (response.status, body["status"]) == (200, "ready")
    return body["parts"]


async def becomes(client: aiohttp.ClientSession, part: str, status: str, text: str = "") -> str:
    for _ in range(300):
        state = (await readiness(client))[part]
        if state["status"] == status and text in state["detail"]:
            return state["detail"]
        await asyncio.sleep(0.1)
    raise AssertionError(f"{part} does not become {status}: {state}")


async def metric(client: aiohttp.ClientSession, line: str) -> float:
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    (found,) = [each for each in lines if each.startswith(line)]
    return float(found.rpartition(" ")[2])


async def remember(client: aiohttp.ClientSession) -> None:
    async with client.post("/api/collections", json={"name": "people"}) as response:
        assert response.status == 201
    data = form(image=photo(), subject="anna")
    data.add_field("quality", "off")
    async with client.post(ROUTE, data=data) as response:
        assert response.status == 201, await response.text()


@pytest.fixture(autouse=True)
def asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the parts more often than every other second."""
    often = partial(ComponentProbes, interval_seconds=0.1, patience_seconds=0.5)
    monkeypatch.setattr("gateway.monitoring.factory.ComponentProbes", often)


@pytest.fixture
def fake() -> FakeInference:
    return FakeInference()


@pytest.fixture
async def client(fake: FakeInference, tmp_path) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(fake, home=tmp_path) as session:
        yield session


def engine_of(detail: str) -> psutil.Process:
    return psutil.Process(int(detail.partition("process ")[2].partition(",")[0]))


async def test_both_homes_say_how_they_do(client):
    detail = await becomes(client, "vectors", "ready", "Edge")
    assert detail == "Qdrant Edge, which starts with the first face"
    assert (
        await becomes(client, "records", "ready", "SQLite") == f"SQLite, tables {newest_revision()}"
    )
    await remember(client)
    detail = await becomes(client, "vectors", "ready", "1 collections")
    memory = engine_of(detail).memory_info().rss
    reported = await metric(client, "aurum_vectors_engine_memory_bytes ")
    assert reported == pytest.approx(memory, rel=0.5)
    assert await metric(client, "aurum_vectors_collections ") == 1
    assert await metric(client, "aurum_vectors_engine_starts ") == 1
    for part in ("vectors", "records"):
        assert await metric(client, f'aurum_part_up{{part="{part}"}}') == 1
        assert await metric(client, f'aurum_part_probe_seconds_count{{part="{part}"}}') > 0
    calls = 'aurum_part_call_seconds_count{operation="%s",outcome="ok",part="%s"}'
    assert await metric(client, calls % ("upsert", "vectors")) == 1
    assert await metric(client, calls % ("write", "records")) > 0


async def test_an_engine_that_hangs_is_named_until_it_goes_on(client):
    await remember(client)
    engine = engine_of(await becomes(client, "vectors", "ready", "process"))
    engine.send_signal(signal.SIGSTOP)
    try:
        await becomes(client, "vectors", "degraded", "no answer for")
        assert await metric(client, 'aurum_part_up{part="vectors"}') == 0
        assert (await readiness(client))["records"]["status"] == "ready"
        status, _, _ = await post(client, "detect", form(image=photo()))
        assert status == 200
    finally:
        engine.send_signal(signal.SIGCONT)
    await becomes(client, "vectors", "ready", "1 collections")


async def test_an_engine_that_cannot_start_again_is_named(client, tmp_path):
    await remember(client)
    engine = engine_of(await becomes(client, "vectors", "ready", "process"))
    vectors = tmp_path / "vectors"
    # beside the collection's lies a folder with an empty shard to copy, which has no manifest
    (manifest,) = vectors.glob(f"*/{MANIFEST}")
    sound = manifest.read_bytes()
    manifest.write_bytes(b"garbage")
    engine.kill()
    await becomes(client, "vectors", "degraded")
    status, _, _ = await post(client, "detect", form(image=photo()))
    assert status == 200
    manifest.write_bytes(sound)
    detail = await becomes(client, "vectors", "ready", "1 collections")
    assert engine_of(detail).pid != engine.pid
    assert await metric(client, "aurum_vectors_engine_starts ") == 2


async def test_records_that_were_removed_are_named(client, tmp_path):
    await becomes(client, "records", "ready", "SQLite")
    file = tmp_path / "records.sqlite3"
    moved = file.rename(tmp_path / "moved")
    detail = await becomes(client, "records", "degraded")
    assert detail == f"records: {file} was removed or replaced"
    shutil.copy(moved, file)
    # until it was asked about again
    asked = 'aurum_part_probe_seconds_count{part="records"}'
    before = await metric(client, asked)
    while await metric(client, asked) < before + 2:
        await asyncio.sleep(0.05)
    await becomes(client, "records", "degraded", "replaced")
    file.unlink()
    moved.rename(file)
    await becomes(client, "records", "ready")


async def test_a_database_that_stops_is_named(fake, tmp_path):
    if find_binaries() is None:
        is_missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with private_postgres() as url:
        server = next(
            process
            for process in psutil.process_iter(["cmdline"])
            if url.partition("host=")[2] in " ".join(process.info["cmdline"] or ())
        )
        async with serving(fake, home=tmp_path, database_url=url) as client:
            assert (
                await becomes(client, "records", "ready", "P")
                == f"PostgreSQL, tables {newest_revision()}"
            )
            family = [server, *server.children(recursive=True)]
            for process in family:
                process.send_signal(signal.SIGSTOP)
            try:
                await becomes(client, "records", "degraded", "no answer for")
            finally:
                for process in family:
                    process.send_signal(signal.SIGCONT)
            await becomes(client, "records", "ready")
            os.kill(server.pid, signal.SIGQUIT)
            await becomes(client, "records", "degraded")
            assert await metric(client, 'aurum_part_up{part="records"}') == 0
            status, _, _ = await post(client, "detect", form(image=photo()))
            assert status == 200
            async with client.get("/api/collections") as response:
                assert (response.status, (await response.json())["code"]) == (
                    503,
                    "storage_unavailable",
                )
            failed = 'aurum_part_call_seconds_count{operation="read",outcome="error"'
            assert await metric(client, failed) > 0
