"""Two gateways behind nginx are restarted one after the other, and no request fails."""

import asyncio
import itertools
import signal
from collections import Counter

from aiohttp import ClientSession

from tests.integration.test_gateway_process import start
from tests.integration.test_gateway_start_stop import answers
from tests.support import nginx, redis
from tests.support.fake_inference import photo
from tests.support.gateway_server import form
from tests.support.grpc_triton import Script, running
from tests.support.serving import free_ports

CALLERS = 8


class Load:
    """Callers who send images, read and change collections; counts the statuses of each route."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.statuses: Counter[tuple[str, int | str]] = Counter()
        self._numbers = itertools.count(1)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        async with ClientSession(self.url) as client, asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self._call(client))

    def stop(self) -> None:
        self._stop.set()

    async def _call(self, client: ClientSession) -> None:
        while not self._stop.is_set():
            name = f"c{next(self._numbers)}"
            await self._ask(client, "detect", "POST", "/api/ml/detect", data=form(image=photo()))
            await self._ask(client, "create", "POST", "/api/collections", json={"name": name})
            await self._ask(client, "get", "GET", f"/api/collections/{name}")
            await self._ask(client, "delete", "DELETE", f"/api/collections/{name}")

    async def _ask(self, client: ClientSession, what: str, method: str, path: str, **body) -> None:
        try:
            async with client.request(method, path, **body) as response:
                await response.read()
                status: int | str = response.status
        except OSError as error:
            status = type(error).__name__
        self.statuses[what, status] += 1

    def total(self) -> int:
        return sum(self.statuses.values())


async def test_a_rolling_restart_fails_no_request(tmp_path, postgres):
    first, second, port = free_ports(3)
    processes = {}

    async def run_gateway(gateway: int, triton: str, redis_url: str) -> None:
        home = tmp_path / str(gateway)
        home.mkdir(exist_ok=True)
        processes[gateway] = await start(
            home,
            AURUM_PORT=gateway,
            AURUM_TRITON_GRPC_URL=triton,
            AURUM_DATABASE_URL=postgres,
            AURUM_REDIS_URL=redis_url,
            AURUM_DRAIN_SECONDS=2,
            AURUM_CACHE="off",
            AURUM_LOG_LEVEL="error",
        )
        async with ClientSession(f"http://127.0.0.1:{gateway}") as client:
            await answers(client, "/api/health/ready", "ready")

    async with running(Script()) as triton:
        with redis.server() as (redis_url, _), nginx.balancing(tmp_path, port, (first, second)):
            load = Load(f"http://127.0.0.1:{port}")
            try:
                for gateway in (first, second):
                    await run_gateway(gateway, triton, redis_url)
                calling = asyncio.create_task(load.run())
                for gateway in (first, second):
                    before = load.total()
                    processes[gateway].send_signal(signal.SIGTERM)
                    assert await asyncio.wait_for(processes[gateway].wait(), 60) == 0
                    await run_gateway(gateway, triton, redis_url)
                    while load.total() < before + 50:
                        await asyncio.sleep(0.05)
                load.stop()
                await calling
            finally:
                for process in processes.values():
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
    expected = {("detect", 200), ("create", 201), ("get", 200), ("delete", 200)}
    assert set(load.statuses) == expected, load.statuses
