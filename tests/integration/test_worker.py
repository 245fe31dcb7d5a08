"""Workers beside real records (SQLite, PostgreSQL) and a real folder of sealed images."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InferenceUnavailableError, RequestTimeoutError
from gateway.records.job_types import ItemResult
from gateway.settings import Settings
from gateway.worker.factory import Surroundings
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import serving
from tests.support.job_worker import (
    JobEngine,
    answer_of,
    ended,
    new_worker,
    results,
    submit,
    surroundings,
    working,
)
from tests.support.records import migrated_postgres, migrated_url, records, set_clock

__all__ = ["migrated_postgres", "migrated_url", "records", "set_clock"]
OF_A_REQUEST = ("request_id", "took_ms", "cached")


@pytest.fixture
async def around(records, tmp_path: Path) -> AsyncIterator[Surroundings]:
    settings = Settings(home=tmp_path, job_attempts=2, job_slice_images=4)
    async with surroundings(settings, records) as made, asyncio.timeout(120):
        yield made


@pytest.fixture
def engine() -> JobEngine:
    return JobEngine()


def comparable(answer: str | bytes) -> dict[str, Any]:
    return {key: value for key, value in json.loads(answer).items() if key not in OF_A_REQUEST}


def by_status(items: list[ItemResult]) -> dict[int, tuple[str, str | None]]:
    return {item.index: (item.status, item.code) for item in items}


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("score", {}),
        ("score", {"include": ["embedding", "crop"], "max_faces": 2}),
        ("detect", {"min_confidence": 0.945}),
        ("embed", {"include": []}),
    ],
)
async def test_results_equal_the_answers_of_the_operations_own_route(
    around, engine, operation, options
):
    images = [photo(faces=3, seed=5), photo(faces=1), photo(faces=0), b"no image at all"]
    job = await submit(around, images, operation, options=options)
    async with working(new_worker(around, engine)):
        await ended(around, job)
    items = await results(around, job)

    query = {key: ",".join(v) if isinstance(v, list) else str(v) for key, v in options.items()}
    async with serving(FakeInference()) as client:
        for item, image in zip(items, images, strict=True):
            sent = {"data": image, "headers": {"Content-Type": "image/png"}}
            async with client.post(f"/api/ml/{operation}", params=query, **sent) as response:
                text = await response.text()
                if response.status == 200:
                    assert comparable(answer_of(around, job, item)) == comparable(text)
                else:
                    problem = json.loads(text)
                    found = (item.status, item.code, item.detail)
                    assert found == ("error", problem["code"], problem["detail"])


async def test_two_workers_end_each_image_once(around, engine):
    images = [photo(seed=n % 7) for n in range(60)]
    jobs = [await submit(around, images[:40]), await submit(around, images[40:], tenant="other")]
    first, second = (new_worker(around, engine, name) for name in ("w1", "w2"))
    async with working(first, second):
        done = [await ended(around, job) for job in jobs]
    assert [(job.done, job.failed, job.sequence >= job.total) for job in done] == [
        (40, 0, True),
        (20, 0, True),
    ]
    # each answer was computed once: nobody worked on an image of the other
    assert len(engine.needs) == 60
    assert list(await around.objects.jobs()) == [] or not any(
        path.is_file() for path in (around.settings.home / "jobs").rglob("*")
    )


async def test_a_worker_that_starts_again_takes_up_what_it_held(around, engine):
    job = await submit(around, [photo(seed=n) for n in range(6)])
    held = await around.records.job_queue.claim(
        "w1", operations=("score",), limit=4, lease_seconds=3600.0
    )
    assert len(held) == 4
    async with working(new_worker(around, engine, "w1")):
        done = await ended(around, job)
    assert (done.done, done.failed) == (6, 0)
    # its late answers change nothing
    assert await around.records.job_queue.release(held) == 0


async def test_the_leases_of_another_worker_are_left_to_it(around, engine):
    job = await submit(around, [photo(seed=n) for n in range(6)])
    await around.records.job_queue.claim("w1", operations=("score",), limit=4, lease_seconds=3600.0)
    async with working(new_worker(around, engine, "w2")):
        async with asyncio.timeout(60):
            while (now := await around.records.jobs.get("default", job.id)).done < 2:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        now = await around.records.jobs.get("default", job.id)
    assert (now.done, now.state) == (2, "running")


async def test_a_stopped_worker_costs_its_images_no_attempt(around, engine):
    engine.seconds = 3600
    job = await submit(around, [photo(seed=n) for n in range(6)])
    async with working(new_worker(around, engine)):
        await engine.started.wait()
    items = await results(around, job)
    assert {item.status for item in items} == {"queued"}
    assert {item.attempts for item in items} == {0}
    assert await around.records.job_queue.workers(60) == ()


async def test_images_of_a_cancelled_job_are_not_worked_on(around, engine, monkeypatch):
    monkeypatch.setattr("gateway.worker.lane._LONGEST_RENEWAL_SECONDS", 0.05)
    engine.seconds = 3600
    job = await submit(around, [photo(seed=n) for n in range(6)])
    worker = new_worker(around, engine)
    async with working(worker):
        await engine.started.wait()
        await around.records.jobs.cancel("default", job.id)
        async with asyncio.timeout(60):
            await engine.idle.wait()
            while worker.lane.is_working:
                await asyncio.sleep(0.01)
    assert {item.status for item in await results(around, job)} == {"cancelled"}


async def test_the_last_attempt_at_an_image_ends_it(around, engine, set_clock):
    engine.error = RequestTimeoutError("late")
    job = await submit(around, [photo()])
    worker = new_worker(around, engine)
    async with working(worker):
        async with asyncio.timeout(60):
            while not worker.state.counters.retried:
                await asyncio.sleep(0.02)
        (item,) = await results(around, job)
        assert (item.status, item.code, item.attempts) == ("queued", "timeout", 1)
        set_clock.move(5)
        await ended(around, job)
    (item,) = await results(around, job)
    assert (item.status, item.code, item.attempts) == ("error", "timeout", 2)
    assert (worker.state.counters.retried, worker.state.counters.dead) == (1, 1)
    # its image is kept: the job can be repeated
    engine.error = None
    job = await around.records.jobs.retry_failed("default", job.id)
    async with working(new_worker(around, engine)):
        assert (await ended(around, job)).done == 1


async def test_no_attempt_is_lost_while_triton_is_away(around, engine):
    engine.error = InferenceUnavailableError("fake: not there")
    engine.reachable = False
    job = await submit(around, [photo(seed=n) for n in range(5)])
    worker = new_worker(around, engine)
    async with working(worker):
        async with asyncio.timeout(60):
            while not worker.state.upstreams.triton.is_away:
                await asyncio.sleep(0.01)
        asked = len(engine.needs)
        await asyncio.sleep(0.5)
        assert len(engine.needs) == asked, "the gate is closed"
        engine.error, engine.reachable = None, True
        assert (await ended(around, job)).done == 5
    assert {item.attempts for item in await results(around, job)} == {1}


async def test_a_heartbeat_says_what_a_worker_does(around, engine, monkeypatch):
    monkeypatch.setattr("gateway.worker.worker.BEAT_SECONDS", 0.2)
    # images that end between two looks at the lane are told by the next beat of an idle worker
    monkeypatch.setattr("gateway.worker.worker.IDLE_BEAT_SECONDS", 0.2)
    job = await submit(around, [photo(), photo(faces=0)])
    async with working(new_worker(around, engine)):
        await ended(around, job)
        async with asyncio.timeout(60):
            while True:
                beats = await around.records.job_queue.workers(60)
                if beats and beats[0].counters["ok"] and beats[0].counters["failed"]:
                    break
                await asyncio.sleep(0.1)
    (beat,) = beats
    assert (beat.name, beat.operations) == ("w1", ("score", "detect", "embed"))
    assert (beat.counters["ok"], beat.counters["failed"]) == (1, 1)
