"""A gateway is killed or paused while it carries out a request; the repetition does it once.

At the moments around the last transaction: before it another gateway does the work, after it the
work is done.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession

from gateway.records.store import RecordStore
from tests.support.collection_client import Embedder
from tests.support.dying_gateway import dying_gateway
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


def homes_with_the_same_keys(folder: Path) -> tuple[Path, Path]:
    """Homes of two gateways of one database."""
    (folder / "keys").mkdir()
    homes = folder / "a", folder / "b"
    for home in homes:
        home.mkdir()
        (home / "keys").symlink_to(folder / "keys")
    return homes


async def killed_at(moment: str, request: Request, home: Path, database: str, port: int) -> None:
    """Send a request to a gateway that is killed at this moment of it."""
    async with (
        dying_gateway(moment, home, database, port) as process,
        ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        async with client.post("/api/collections", json={"name": "people"}) as made:
            assert made.status == 201
        with pytest.raises(ClientConnectionError):
            await request(client)
        assert await process.wait() == -9


async def all_jobs(client: ClientSession) -> list[str]:
    """Ids of all jobs."""
    async with client.get("/api/ml/jobs") as response:
        return [job["job_id"] for job in (await response.json())["jobs"]]


async def all_faces(client: ClientSession) -> list[str]:
    """Ids of all faces."""
    async with client.get("/api/collections/people/faces") as response:
        return [face["face_id"] for face in (await response.json())["faces"]]


WORKS = [("faces", enrol, all_faces), ("job", upload, all_jobs)]


def ids_of(answer: Mapping[str, Any]) -> list[str]:
    """Ids of the faces or the job that an answer names."""
    return [face["face_id"] for face in answer.get("faces", ())] or [answer["job_id"]]


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


# After the last transaction ---------------------------------------------------------------------


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


# Before the last transaction: at another gateway ------------------------------------------------


@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("work", "request_", "all_of"), WORKS)
async def test_another_gateway_does_what_a_killed_one_began(
    tmp_path: Path, migrated_url: str, unused_tcp_port: int, work: str, request_: Request, all_of
) -> None:
    killed, living = homes_with_the_same_keys(tmp_path)
    await killed_at(f"before {work}", request_, killed, migrated_url, unused_tcp_port)
    async with serving(
        FakeInference(), Embedder(), home=living, database_url=migrated_url
    ) as other:
        first, again = await asyncio.gather(request_(other), request_(other))
        assert first == again, "the second one waited for the first"
        assert first[0] in (201, 202)
        assert await all_of(other) == ids_of(first[1])


@pytest.mark.parametrize("migrated_url", ["postgresql"], indirect=True)
async def test_a_gateway_that_was_paused_does_nothing_that_another_one_has_done(
    tmp_path: Path, migrated_url: str, unused_tcp_port: int
) -> None:
    homes = homes_with_the_same_keys(tmp_path)
    async with (
        dying_gateway("pause", homes[0], migrated_url, unused_tcp_port) as process,
        ClientSession(f"http://127.0.0.1:{unused_tcp_port}") as paused,
        serving(FakeInference(), Embedder(), home=homes[1], database_url=migrated_url) as other,
    ):
        async with paused.post("/api/collections", json={"name": "people"}) as made:
            assert made.status == 201
        late = asyncio.ensure_future(enrol(paused))
        async with asyncio.timeout(30):
            while not is_stopped(process.pid):
                await asyncio.sleep(0.02)
        status, answer = await enrol(other)
        assert status == 201
        process.send_signal(signal.SIGCONT)
        status, problem = await late
        assert (status, problem["code"]) == (409, "conflict")
        assert await enrol(paused) == await enrol(other)
        assert await all_faces(other) == await all_faces(paused) == ids_of(answer)
    records = await RecordStore.open(migrated_url)
    try:
        assert await records.faces.in_state("pending") == ()
    finally:
        await records.close()
