"""`kill -9` of the gateway in the middle of hundreds of enrolments, three times over."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np

from gateway.collections.base import NothingCached
from gateway.collections.erase import Forgetting
from gateway.collections.factory import open_stores
from gateway.collections.reconcile import Repair
from gateway.settings import CHECKOUT, Settings
from tests.support.serving import free_ports

SPACE = "00000000000000a1"
FACES = 300
KILL_AT = (60, 150, 240)
CONCURRENCY = 16
VECTORS = np.random.default_rng(5).standard_normal((FACES, 64)).round(4)


@dataclass
class Acknowledged:
    """What was acknowledged to clients: face id by number."""

    faces: dict[int, str] = field(default_factory=dict)
    unanswered: set[int] = field(default_factory=set)


async def start(settings: Settings) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AURUM_")} | {
        "AURUM_HOME": str(settings.home),
        "AURUM_PORT": str(settings.port),
        "AURUM_LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", cwd=CHECKOUT, env=environment, start_new_session=True
    )
    url = f"http://127.0.0.1:{settings.port}/api/health/live"
    async with asyncio.timeout(60), aiohttp.ClientSession() as client:
        while True:
            assert process.returncode is None
            try:
                async with client.get(url):
                    return process
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)


async def enrol_until(acknowledged: Acknowledged, settings: Settings, *, most: int) -> None:
    """Enrol what was not acknowledged yet, until `most` are or the gateway is gone."""
    waiting = [n for n in range(FACES) if n not in acknowledged.faces]
    acknowledged.unanswered = set()
    enough = asyncio.Event()

    async def client_loop(client: aiohttp.ClientSession) -> None:
        while waiting and not enough.is_set():
            number = waiting.pop()
            acknowledged.unanswered.add(number)
            body = {
                "space": SPACE,
                "embedding": VECTORS[number].tolist(),
                "subject": f"s{number}",
            }
            async with client.post("/api/collections/people/faces", json=body) as response:
                assert response.status == 201, await response.text()
                acknowledged.faces[number] = (await response.json())["faces"][0]["face_id"]
            acknowledged.unanswered.discard(number)
            if len(acknowledged.faces) >= most:
                enough.set()

    async with aiohttp.ClientSession(f"http://127.0.0.1:{settings.port}") as client:
        loops = [asyncio.create_task(client_loop(client)) for _ in range(CONCURRENCY)]
        ready = asyncio.create_task(enough.wait())
        everyone = asyncio.gather(*loops, return_exceptions=True)
        await asyncio.wait({ready, everyone}, return_when=asyncio.FIRST_COMPLETED)
        if most < FACES:
            yield_to = settings.home / "pid"
            os.kill(int(yield_to.read_text()), signal.SIGKILL)
        for outcome in await everyone:
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, aiohttp.ClientConnectionError), outcome
        ready.cancel()


async def find_everyone(url: str, acknowledged: Acknowledged) -> None:
    """Search for each face that was acknowledged, several at a time."""
    waiting = list(acknowledged.faces.items())

    async def client_loop(client: aiohttp.ClientSession) -> None:
        while waiting:
            number, face_id = waiting.pop()
            probe = {
                "space": SPACE,
                "embedding": VECTORS[number].tolist(),
                "min_similarity": 0.999,
                "group_by": "face",
            }
            async with client.post(url, json=probe) as response:
                matches = (await response.json())["faces"][0]["matches"]
                assert face_id in {match["face_id"] for match in matches}

    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(client_loop(client))


async def test_nothing_acknowledged_is_lost_and_no_half_remains(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = Settings(home=tmp_path, port=port)
    acknowledged = Acknowledged()
    process = await start(settings)
    try:
        url = f"http://127.0.0.1:{port}/api/collections"
        async with (
            aiohttp.ClientSession() as client,
            client.post(url, json={"name": "people"}) as response,
        ):
            assert response.status == 201
        in_the_middle = 0
        for most in (*KILL_AT, FACES):
            (tmp_path / "pid").write_text(str(process.pid))
            await enrol_until(acknowledged, settings, most=most)
            in_the_middle += len(acknowledged.unanswered)
            if most < FACES:
                await process.wait()
                process = await start(settings)
        assert in_the_middle > 0, "each kill cut requests off"
        assert len(acknowledged.faces) == FACES
        await find_everyone(f"{url}/people/search", acknowledged)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    async with open_stores(settings) as stores:
        repair = Repair(stores, Forgetting(stores, NothingCached()))
        assert await repair.find_drift() == ()
        assert not await stores.records.faces.in_state("pending")
        (collection,) = await stores.records.collections.all()
        faces, _ = await stores.records.faces.count(collection.id)
        # a request that was cut off may have been done in full, its answer lost on the way
        assert FACES <= faces <= FACES + in_the_middle
        (home,) = await stores.vectors.collections()
        assert await stores.vectors.count(home) == faces
