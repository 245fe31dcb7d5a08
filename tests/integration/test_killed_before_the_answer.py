"""`kill -9` of a gateway between its last transaction and its answer: a repetition does no more."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession

from gateway.settings import CHECKOUT
from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, serving
from tests.support.records import migrated_postgres, migrated_url

__all__ = ["migrated_postgres", "migrated_url"]

HEADERS = {"Idempotency-Key": "k"}
EMBEDDING = {"space": "00000000000000a1", "embedding": [1.0] + [0.0] * 7, "subject": "anna"}
Request = Callable[[ClientSession], Awaitable[tuple[int, Mapping[str, Any]]]]


async def upload(client: ClientSession) -> tuple[int, Mapping[str, Any]]:
    """Create a job."""
    data = form(images=photo())
    async with client.post("/api/ml/score/batch", data=data, headers=HEADERS) as response:
        return response.status, await response.json()


async def enrol(client: ClientSession) -> tuple[int, Mapping[str, Any]]:
    """Enrol an embedding, which no collection recognises as it does an image."""
    path = "/api/collections/people/faces"
    async with client.post(path, json=EMBEDDING, headers=HEADERS) as response:
        return response.status, await response.json()


async def killed_at(moment: str, request: Request, home: Path, database: str, port: int) -> None:
    """Send a request to a gateway that is killed at this moment of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AURUM_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.dying_gateway", moment),
        cwd=CHECKOUT,
        env=kept
        | {
            "AURUM_HOME": str(home),
            "AURUM_PORT": str(port),
            "AURUM_DATABASE_URL": database,
            "AURUM_PORTRAIT_INTERVAL_SECONDS": "0",
            "AURUM_WORKERS": "0",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60), ClientSession(f"http://127.0.0.1:{port}") as client:
            while b"listening" not in (line := await process.stderr.readline()):
                assert line, "it ended before it listened"
            async with client.post("/api/collections", json={"name": "people"}) as made:
                assert made.status == 201
            with pytest.raises(ClientConnectionError):
                await request(client)
            assert await process.wait() == -9
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def all_jobs(client: ClientSession) -> list[str]:
    """Ids of all jobs."""
    async with client.get("/api/ml/jobs") as response:
        return [job["job_id"] for job in (await response.json())["jobs"]]


async def all_faces(client: ClientSession) -> list[str]:
    """Ids of all faces."""
    async with client.get("/api/collections/people/faces") as response:
        return [face["face_id"] for face in (await response.json())["faces"]]


async def test_an_upload_that_is_repeated_makes_no_second_job(
    tmp_path: Path, migrated_url: str, unused_tcp_port: int
) -> None:
    await killed_at("job", upload, tmp_path, migrated_url, unused_tcp_port)
    async with serving(
        FakeInference(), Embedder(), home=tmp_path, database_url=migrated_url
    ) as client:
        (job,) = await all_jobs(client)
        status, answer = await upload(client)
        assert (status, answer["job_id"], answer["total"]) == (202, job, 1)
        assert await all_jobs(client) == [job]


async def test_an_enrolment_that_is_repeated_enrols_nobody_twice(
    tmp_path: Path, migrated_url: str, unused_tcp_port: int
) -> None:
    await killed_at("faces", enrol, tmp_path, migrated_url, unused_tcp_port)
    async with serving(
        FakeInference(), Embedder(), home=tmp_path, database_url=migrated_url
    ) as client:
        (face,) = await all_faces(client)
        status, answer = await enrol(client)
        assert (status, [each["face_id"] for each in answer["faces"]]) == (201, [face])
        assert await all_faces(client) == [face]
