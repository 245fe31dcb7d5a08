"""A gateway whose stores are not there yet, and one that ends behind a balancer."""

import asyncio
import signal
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientConnectionError, ClientSession

from tests.integration.test_gateway_process import start
from tests.support.fake_inference import photo
from tests.support.gateway_server import form
from tests.support.grpc_triton import Script, running

GONE = "127.0.0.1:1"
"""Address at which nobody listens."""


async def fetch(client: ClientSession, path: str):
    async with client.get(path) as response:
        return response.status, await response.json(content_type=None), response.headers


async def answers(client: ClientSession, path: str, status: str):
    """Wait until a health route answers with this status."""
    async with asyncio.timeout(60):
        while True:
            try:
                found = await fetch(client, path)
            except ClientConnectionError:
                await asyncio.sleep(0.05)
                continue
            if found[1]["status"] == status:
                return found
            await asyncio.sleep(0.05)


async def ended(process) -> list[str]:
    """Return what it wrote until its end."""
    _, said = await asyncio.wait_for(process.communicate(), 60)
    return said.decode().splitlines()


async def test_it_waits_for_postgresql_and_says_so(tmp_path, unused_tcp_port, postgres):
    sockets = tmp_path / "sockets"
    url = postgres.rpartition("host=")[0] + f"host={sockets}"
    process = await start(
        tmp_path,
        AURUM_PORT=unused_tcp_port,
        AURUM_TRITON_GRPC_URL=GONE,
        AURUM_DATABASE_URL=url,
        AURUM_FALLBACK="off",
    )
    async with ClientSession(f"http://127.0.0.1:{unused_tcp_port}") as client:
        await answers(client, "/api/health/live", "live")
        status, body, headers = await answers(client, "/api/health/ready", "starting")
        assert status == 503
        assert "waiting for PostgreSQL" in body["parts"]["gateway"]["detail"]
        assert int(headers["Retry-After"]) >= 1
        status, body, _ = await fetch(client, "/api/collections")
        assert (status, body["code"]) == (503, "storage_unavailable")
        sockets.symlink_to(Path(postgres.rpartition("host=")[2]))
        # Triton is away, too: it serves, and says so
        await answers(client, "/api/health/ready", "unready")
        status, _, _ = await fetch(client, "/api/collections")
        assert status == 200
    process.send_signal(signal.SIGTERM)
    lines = [orjson.loads(line) for line in await ended(process)]
    waits = [line for line in lines if line["message"] == "waiting for a store"]
    assert waits[0]["store"] == "PostgreSQL"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("variable", "url", "expected"),
    [
        ("AURUM_DATABASE_URL", "postgresql://x@127.0.0.1:1/x", "PostgreSQL did not answer for"),
        ("AURUM_QDRANT_URL", f"http://{GONE}", "Qdrant did not answer for"),
    ],
)
async def test_it_ends_in_one_clear_line_when_the_time_is_up(
    tmp_path, unused_tcp_port, variable, url, expected
):
    process = await start(
        tmp_path,
        AURUM_PORT=unused_tcp_port,
        AURUM_STORES_START_TIMEOUT_SECONDS=1,
        **{variable: url},
    )
    lines = await ended(process)
    assert process.returncode == 1
    assert lines[-1].startswith(f"aurum: {expected}")
    assert all(line.startswith("{") for line in lines[:-1]), lines


async def test_a_database_that_does_not_exist_ends_it_at_once(tmp_path, unused_tcp_port, postgres):
    url = postgres.replace("/postgres?", "/no_such_database?")
    process = await start(tmp_path, AURUM_PORT=unused_tcp_port, AURUM_DATABASE_URL=url)
    *log, line = await ended(process)
    assert process.returncode == 1
    assert not any("waiting" in each for each in log)
    assert line == 'aurum: AURUM_DATABASE_URL: database "no_such_database" does not exist'


async def test_a_signal_ends_the_wait(tmp_path, unused_tcp_port):
    url = "postgresql://x@127.0.0.1:1/x"
    process = await start(tmp_path, AURUM_PORT=unused_tcp_port, AURUM_DATABASE_URL=url)
    async with ClientSession(f"http://127.0.0.1:{unused_tcp_port}") as client:
        await answers(client, "/api/health/ready", "starting")
    process.send_signal(signal.SIGTERM)
    await ended(process)
    assert process.returncode == 0


async def test_while_it_drains_it_answers_and_is_not_ready(tmp_path, unused_tcp_port):
    async with running(Script()) as address:
        process = await start(
            tmp_path,
            AURUM_PORT=unused_tcp_port,
            AURUM_TRITON_GRPC_URL=address,
            AURUM_DRAIN_SECONDS=60,
        )
        async with ClientSession(f"http://127.0.0.1:{unused_tcp_port}") as client:
            _, _, headers = await answers(client, "/api/health/ready", "ready")
            assert headers.get("Connection") != "close"
            process.send_signal(signal.SIGTERM)
            status, _, headers = await answers(client, "/api/health/ready", "stopping")
            assert (status, headers["Connection"]) == (503, "close")
            data = form(image=photo())
            async with client.post("/api/ml/detect", data=data) as response:
                assert response.status == 200
                assert response.headers["Connection"] == "close"
            # who does not want to wait says so again
            process.send_signal(signal.SIGTERM)
            await ended(process)
            assert process.returncode == 0
            with pytest.raises(ClientConnectionError):
                await client.get("/api/health/live")
