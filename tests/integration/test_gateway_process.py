"""`python -m gateway` as a process: how it starts, what it says when it cannot, how it ends."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientConnectionError, ClientSession

from tests.support.fake_inference import photo
from tests.support.gateway_server import form
from tests.support.grpc_triton import Script, running

CHECKOUT = Path(__file__).parents[2]


async def start(tmp_path, **variables: object) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AURUM_")}
    ours = {name: str(value) for name, value in variables.items()}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(CHECKOUT), "AURUM_HOME": str(tmp_path)} | ours,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def started(tmp_path, port: int, address: str):
    # the portrait would call Triton, too
    off = {"AURUM_PORTRAIT_INTERVAL_SECONDS": 0}
    process = await start(tmp_path, AURUM_PORT=port, AURUM_TRITON_GRPC_URL=address, **off)
    try:
        async with asyncio.timeout(60), ClientSession(f"http://127.0.0.1:{port}") as client:
            while b"listening" not in (line := await process.stderr.readline()):
                assert line, "it ended before it listened"
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_port_in_use_ends_in_one_clear_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = await start(tmp_path, AURUM_PORT=port)
        out, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert out == b""
    assert len(stderr.splitlines()) == 1
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in stderr.decode().lower()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("AURUM_PROT", "1", "unknown setting AURUM_PROT; did you mean AURUM_PORT?"),
        ("AURUM_PORT", "many", "AURUM_PORT: "),
        ("AURUM_HOST", "0.0.0.0", "AURUM_HOST: 0.0.0.0 can be reached from other machines"),
    ],
)
async def test_a_wrong_setting_ends_in_one_clear_line(tmp_path, variable, value, expected):
    process = await start(tmp_path, **{variable: value})
    _, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    (line,) = stderr.decode().splitlines()
    assert line.startswith(f"aurum: {expected}")


@pytest.mark.parametrize(
    ("authentication", "expected"),
    [
        ("on", "AURUM_TOKEN_ISSUERS_FILE: none.toml: No such file"),
        ("off", "AURUM_TOKEN_ISSUERS_FILE: nobody is asked for a token"),
    ],
)
async def test_issuers_that_cannot_be_used_end_in_a_clear_line(
    tmp_path, unused_tcp_port, authentication, expected
):
    process = await start(
        tmp_path,
        AURUM_PORT=unused_tcp_port,
        AURUM_AUTHENTICATION=authentication,
        AURUM_TOKEN_ISSUERS_FILE="none.toml",
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert stderr.decode().splitlines()[-1].startswith(f"aurum: {expected}")
    assert b"Traceback" not in stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_in_flight_is_finished_before_it_ends(tmp_path, unused_tcp_port, number):
    script = Script(seconds=0.5)
    async with (
        running(script) as address,
        started(tmp_path, unused_tcp_port, address) as (process, client),
    ):

        async def detect():
            async with client.post("/api/ml/detect", data=form(image=photo())) as response:
                return response.status, await response.json()

        request = asyncio.ensure_future(detect())
        await script.called.wait()
        process.send_signal(number)
        status, body = await request
        assert status == HTTPStatus.OK
        assert len(body["faces"]) == 1
        assert await asyncio.wait_for(process.wait(), 60) == 0
        with pytest.raises(ClientConnectionError):
            await client.get("/api/health/live")


async def test_every_line_of_its_log_is_json(tmp_path, unused_tcp_port):
    async with (
        running(Script()) as address,
        started(tmp_path, unused_tcp_port, address) as (process, client),
    ):
        async with client.get("/api/health/ready") as response:
            assert response.status == HTTPStatus.OK
        process.send_signal(signal.SIGTERM)
        lines = (await process.stderr.read()).splitlines()
    entries = [orjson.loads(line) for line in lines]
    assert "gateway.access" in [line["logger"] for line in entries]
    assert entries[-1]["message"] == "stopping"
