"""Jobs through the Python client and `aurum jobs`, against the gateway; the test is the worker."""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aurum_client import AsyncAurumClient, AurumClient, ImageError, NamedImage, NotFoundError

from tests.support.command_line import Finished, run_in_process
from tests.support.fake_inference import photo
from tests.support.job_world import JobWorld, job_world
from tests.support.records import add_migrated_sqlite


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JobWorld]:
    add_migrated_sqlite(tmp_path / "records.sqlite3")
    async with job_world(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/records.sqlite3") as made:
        yield made


@pytest.fixture
def url(world: JobWorld) -> str:
    return str(world.client._base_url).rstrip("/")


@pytest.fixture
async def answer(world: JobWorld) -> dict[str, Any]:
    """What the route of the operation answers to a photo."""
    async with world.client.post("/api/ml/detect", data={"image": io.BytesIO(photo())}) as response:
        body: dict[str, Any] = await response.json()
    return body


async def end(world: JobWorld, answer: dict[str, Any], *, failing: tuple[int, ...] = ()) -> None:
    for item in await world.claim():
        await (world.fail(item) if item.index in failing else world.finish(item, answer))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(4):
        path = folder / f"person {number % 2}" / f'{number} "ä".png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(seed=number))
    return folder


async def test_a_job_from_upload_to_results(world, url, photos, answer):
    async with AsyncAurumClient(url) as client:
        job = await client.jobs.submit(photos, operation="detect", max_faces=3)
        assert (job.state, job.total, job.operation) == ("queued", 4, "detect")
        following = asyncio.create_task(collect(client.jobs.events(job.job_id, results=True)))
        waiting = asyncio.create_task(client.jobs.wait(job.job_id))
        (item, *_) = await world.claim(limit=1)
        assert item.name == 'person 0/0 "ä".png'
        assert item.job.options["max_faces"] == 3
        await world.finish(item, answer)
        await end(world, answer, failing=(3,))
        job = await waiting
        assert (job.state, job.done, job.failed, job.is_finished) == ("done", 3, 1, True)
        events = await following
        assert [event.item.index for event in events if event.item] == [0, 1, 2, 3]
        assert all(event.item.result.faces for event in events if event.item and event.id != "4")
        assert events[-1].job.state == "done"
        again = await collect(client.jobs.events(job.job_id, last_event_id=events[-1].id))
        assert again == []
        results = await collect(client.jobs.results(job.job_id, page_size=3))
        assert [item.status for item in results] == ["ok", "ok", "ok", "error"]
        assert results[0].result.image.sha256 == answer["image"]["sha256"]
        assert results[3].error.code == "no_face"
        lines = b"".join(await collect(client.jobs.download_results(job.job_id, status="error")))
        assert json.loads(lines)["name"] == 'person 1/3 "ä".png'
        assert (await client.jobs.retry(job.job_id)).state == "queued"
        assert (await client.jobs.pause(job.job_id)).state == "paused"
        assert (await client.jobs.resume(job.job_id)).state in ("queued", "running")
        assert (await client.jobs.cancel(job.job_id)).state == "cancelled"
        listed = await collect(client.jobs.list(state=["done", "cancelled"]))
        assert [each.job_id for each in listed] == [job.job_id]
        with pytest.raises(NotFoundError):
            await client.jobs.get("absent")


async def collect(iterator: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in iterator]


async def test_archives_and_repeated_uploads_without_asyncio(world, url, photos, tmp_path):
    archive = tmp_path / "photos.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(photos, "album")
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())

    def work() -> None:
        with AurumClient(url) as client:
            first = client.jobs.submit(archive, idempotency_key="one")
            assert (first.total, first.skipped) == (4, 1)
            with archive.open("rb") as file:
                again = client.jobs.submit(file, idempotency_key="one")
            assert again.job_id == first.job_id
            named = client.jobs.submit([NamedImage("a/b.png", photo()), archive], wait=0.1)
            assert named.total == 5
            names = [item.name for item in client.jobs.results(named.job_id)]
            assert names[:2] == ["a/b.png", 'photos.tar.gz/album/person 0/0 "ä".png']
            with pytest.raises(ImageError):
                client.jobs.submit(b"PK\x03\x04 broken archive")

    await asyncio.to_thread(work)


class Commands:
    """`aurum jobs` in a thread: the gateway runs in this thread's loop."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder

    async def __call__(self, name: str, *arguments: str) -> Finished:
        given = ["jobs", name, *arguments, "--url", self._url]
        environment = {"AURUM_HOME": str(self._folder), "COLUMNS": "200", "PATH": ""}
        return await asyncio.to_thread(
            run_in_process, given, environment=environment, folder=self._folder
        )


@pytest.fixture
def jobs(url: str, tmp_path: Path) -> Commands:
    return Commands(url, tmp_path)


async def test_the_commands_of_a_job(world, jobs, photos, answer, tmp_path):
    submitted = await jobs("submit", str(photos), "--operation", "detect", "--key", "k")
    assert submitted.returncode == 0, submitted.stderr
    job_id = submitted.stdout.strip()
    assert "no worker is running" in submitted.stderr
    again = await jobs("submit", str(photos), "--operation", "detect", "--key", "k", "--json")
    assert json.loads(again.stdout)["job_id"] == job_id
    assert (await jobs("pause", job_id)).returncode == 0
    assert "paused" in (await jobs("show", job_id)).stdout
    refused = await jobs("retry", job_id)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: conflict: ")
    assert (await jobs("resume", job_id)).returncode == 0
    late = await jobs("watch", job_id, "--timeout", "0.2")
    assert (late.returncode, "it goes on" in late.stderr) == (4, True)
    watching = asyncio.create_task(jobs("watch", job_id))
    await end(world, answer, failing=(1,))
    watched = await watching
    assert watched.returncode == 2
    assert watched.stdout == f"{job_id} done: 3 of 4 done, 1 failed\n"
    assert 'failed: person 0/2 "ä".png: no_face: no face' in watched.stderr
    document = json.loads((await jobs("show", job_id, "--json")).stdout)
    assert (document["done"], document["failed"]) == (3, 1)
    assert document["created_at"].endswith("Z")
    listed = await jobs("list", "--state", "done")
    assert job_id in listed.stdout
    assert json.loads((await jobs("list", "--state", "queued", "--json")).stdout) == []
    lines = (await jobs("results", job_id)).stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["ok", "error", "ok", "ok"]
    table = await jobs("results", job_id, "--format", "table", "--status", "error")
    assert "no_face: no face" in table.stdout
    written = await jobs("results", job_id, "--output", "faces.csv")
    assert written.returncode == 0
    assert (tmp_path / "faces.csv").read_text().startswith("index,name,status")
    assert (await jobs("results", job_id, "--output", "faces.csv")).returncode == 1
    assert (await jobs("retry", job_id)).returncode == 0
    await end(world, answer)
    watched = await jobs("watch", job_id, "--json")
    assert (watched.returncode, json.loads(watched.stdout)["done"]) == (0, 4)


async def test_commands_that_cannot_work_say_why_in_one_line(jobs, tmp_path):
    unknown = await jobs("show", "absent")
    assert unknown.returncode == 1
    assert unknown.stderr == "error: there is no job absent; list jobs with: aurum jobs list\n"
    missing = await jobs("submit", "absent.jpg")
    assert missing.returncode == 1
    assert "absent.jpg: No such file or directory" in missing.stderr
    wrong = await jobs("submit", ".", "--metadata", "[1]")
    assert (wrong.returncode, wrong.stderr) == (1, "error: --metadata: not a JSON object\n")
    assert (await jobs("list", "--state", "lost")).returncode == 1
    away = await Commands("http://127.0.0.1:9", tmp_path)("list")
    assert away.returncode == 3
    assert away.stderr.startswith("error: no gateway at http://127.0.0.1:9: ")
