"""What is deleted when its time is over, and the metrics of jobs, on SQLite and PostgreSQL."""

import asyncio

import pytest

from gateway.concurrency import BackgroundTasks
from gateway.errors import JobsUnavailableError
from gateway.jobs.housekeeping import FORGET_SECONDS, Housekeeping
from gateway.jobs.objects.base import object_key
from gateway.jobs.objects.folder import FolderObjects
from gateway.jobs.service import Jobs
from gateway.jobs.webhook_policy import WebhookPolicy
from gateway.records.job_types import JobRecord
from gateway.types import DEFAULT_TENANT
from tests.support.job_world import job_world
from tests.support.records import migrated_postgres, migrated_url, set_clock

__all__ = ["migrated_postgres", "migrated_url", "set_clock"]


@pytest.fixture
async def world(tmp_path, migrated_url):
    # its own housekeeping waits for ten minutes
    async with job_world(tmp_path, migrated_url) as made:
        yield made


@pytest.fixture
def objects(tmp_path):
    return FolderObjects(tmp_path / "jobs", min_free_bytes=0)


@pytest.fixture
async def jobs(world, objects):
    async with BackgroundTasks() as background:
        policy = WebhookPolicy(frozenset(), "")
        yield Jobs(world.records, objects, world.cipher, policy, background)


async def test_expired_jobs_lose_results_and_images_then_their_record(
    world, jobs, objects, set_clock
):
    ended = await world.submit(2, retention_seconds=3600.0)
    running = await world.submit(2, retention_seconds=3600.0)
    for job_id in (ended, running):
        for index in (0, 1):
            await objects.put(object_key(job_id, index), b"sealed")
    await world.work(2, failing=(1,))
    # several gateways at once
    both = [Housekeeping(jobs), Housekeeping(jobs)]

    async def run() -> None:
        await asyncio.gather(*(each.run() for each in both))

    set_clock.move(3599)
    for _ in range(2):
        await run()
    # the image that failed may be repeated
    assert set(await objects.jobs()) == {ended, running}
    set_clock.move(2)
    await run()
    assert set(await objects.jobs()) == {running}
    assert (await world.call("GET", f"/{ended}"))["state"] == "expired"
    assert await world.records.jobs.results(ended, limit=9) == ()
    assert (await world.call("GET", f"/{running}"))["state"] == "queued"
    set_clock.move(FORGET_SECONDS)
    await run()
    await world.call("GET", f"/{ended}", status=404)
    assert (await world.call("GET", f"/{running}"))["total"] == 2


async def test_abandoned_uploads_and_images_without_a_job_are_swept(
    world, jobs, objects, set_clock
):
    abandoned = JobRecord("01932c07-209c-7c52-a9f1-4c1e7bd0a5cc", DEFAULT_TENANT, "a", "score", 1.0)
    await world.records.jobs.create(abandoned)
    orphan = "01932c07-209c-7c52-a9f1-4c1e7bd0a5cd"
    needed = await world.submit(1)
    cancelled = await world.submit(1)
    for job_id in (abandoned.id, orphan, needed, cancelled):
        await objects.put(object_key(job_id, 0), b"sealed")
    await world.records.jobs.cancel(DEFAULT_TENANT, cancelled)
    keeping = Housekeeping(jobs)
    await keeping.run()
    # an upload may store its first image before its record can be read
    assert set(await objects.jobs()) == {abandoned.id, orphan, needed, cancelled}
    await keeping.run()
    assert set(await objects.jobs()) == {abandoned.id, needed}
    set_clock.move(3601)
    await keeping.run()
    assert set(await objects.jobs()) == {needed}
    assert await world.records.jobs.get(DEFAULT_TENANT, abandoned.id) is None


async def test_what_others_keep_in_the_same_bucket_stays(jobs, objects):
    # sorted before the orphan, so that a name that is refused would keep the orphan, too
    theirs, orphan = "00-2025", "01932c07-209c-7c52-a9f1-4c1e7bd0a5cd"
    for folder in (theirs, orphan):
        await objects.put(object_key(folder, 0), b"sealed")
    keeping = Housekeeping(jobs)
    for _ in range(2):
        await keeping.run()
    assert set(await objects.jobs()) == {theirs}


async def test_a_store_that_is_away_is_cleaned_later(world, jobs, objects, set_clock, monkeypatch):
    job_id = await world.submit(1, retention_seconds=60.0)
    await objects.put(object_key(job_id, 0), b"sealed")
    await world.work(failing=(0,))
    set_clock.move(61)
    keeping = Housekeeping(jobs)

    async def away(*_: object) -> None:
        raise JobsUnavailableError("away")

    with monkeypatch.context() as broken:
        broken.setattr(objects, "delete_job", away)
        await keeping.run()
    assert (await world.call("GET", f"/{job_id}"))["state"] == "expired"
    assert set(await objects.jobs()) == {job_id}
    for _ in range(2):
        await keeping.run()
    assert set(await objects.jobs()) == set()


async def test_cancelling_deletes_the_images(world, objects):
    job_id = await world.submit(1)
    await objects.put(object_key(job_id, 0), b"sealed")
    await world.call("DELETE", f"/{job_id}")
    async with asyncio.timeout(60):
        while await objects.jobs():
            await asyncio.sleep(0.02)


async def test_metrics_show_the_queue_and_what_workers_did(tmp_path, migrated_url, monkeypatch):
    monkeypatch.setattr("gateway.jobs.measures._INTERVAL_SECONDS", 0.05)
    async with job_world(tmp_path, migrated_url) as world:

        async def until(name: str, value: float) -> None:
            async with asyncio.timeout(60):
                while await world.metric(name) != value:
                    await asyncio.sleep(0.02)

        await until('aurum_job_workers{operation="score"}', 0)
        await world.submit(5, age_seconds=100.0)
        await world.claim(2)
        await until("aurum_job_images_waiting", 3)
        await until("aurum_job_images_leased", 2)
        await until('aurum_jobs{state="running"}', 1)
        assert 100 <= await world.metric("aurum_job_oldest_wait_seconds") < 200
        await world.beat("w1", started_at=1.0, ok=10, failed=1)
        await until('aurum_job_workers{operation="score"}', 1)
        await until('aurum_job_images_total{outcome="ok"}', 10)
        # it ends, and starts again under its name
        await world.records.job_queue.leave("w1")
        await until('aurum_job_workers{operation="score"}', 0)
        await world.beat("w1", started_at=2.0, ok=3)
        await until('aurum_job_images_total{outcome="ok"}', 13)
        assert await world.metric('aurum_job_images_total{outcome="failed"}') == 1


async def test_images_before_the_start_of_a_gateway_are_not_counted(tmp_path, migrated_url):
    async with job_world(tmp_path, migrated_url) as world:
        await world.beat("w1", ok=10)
    async with job_world(tmp_path, migrated_url) as world:
        async with asyncio.timeout(60):
            while await world.metric('aurum_job_workers{operation="score"}') != 1:
                await asyncio.sleep(0.02)
        assert await world.metric('aurum_job_images_total{outcome="ok"}') == 0
