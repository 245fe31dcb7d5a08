"""Workers in the test's process: real records, images and pipeline; an engine in closed form."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from gateway.collections.base import new_id
from gateway.concurrency import BackgroundTasks, CpuPool
from gateway.deadline import Deadline
from gateway.inference.work_done import WorkDone
from gateway.jobs.objects.base import object_key
from gateway.jobs.objects.factory import open_objects
from gateway.jobs.results import open_result
from gateway.records import clock
from gateway.records.encryption import load_cipher
from gateway.records.job_types import ItemResult, JobRecord, NewItem, Operation
from gateway.records.store import RecordStore
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.worker.counted import CountedInference, JobInference
from gateway.worker.factory import Surroundings, face_operations, make_pipeline, make_worker
from gateway.worker.upstream import Insistence
from gateway.worker.worker import Worker
from tests.support.fake_inference import FakeInference


class JobEngine(FakeInference):
    """The fake with Triton's sums; `others` are images that others asked about."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.others = 0

    async def work_done(self, *, deadline: Deadline) -> WorkDone:
        return WorkDone(len(self.needs) - self.active + self.others, 0.0, 1.0 * len(self.needs))


@asynccontextmanager
async def surroundings(settings: Settings, records: RecordStore) -> AsyncIterator[Surroundings]:
    """Open what a worker uses of its process."""
    pool = CpuPool(1)
    try:
        async with BackgroundTasks() as background, open_objects(settings) as objects:
            yield Surroundings(
                settings=settings,
                records=records,
                objects=objects,
                cipher=load_cipher(settings),
                metrics=Metrics(),
                cpu_pool=pool,
                background=background,
            )
    finally:
        pool.close()


def new_worker(around: Surroundings, engine: JobInference, name: str = "w1") -> Worker:
    """Make a worker that only reads images."""
    counted = CountedInference(engine)
    operations = face_operations(around, make_pipeline(around, counted, None))
    return make_worker(
        around,
        engine,
        counted,
        operations,
        name=name,
        insistence=Insistence(),
        probe_collections=around.records.health,
    )


@asynccontextmanager
async def working(*workers: Worker) -> AsyncIterator[None]:
    """Run workers until the end of the block, and stop them as a signal does."""
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        for worker in workers:
            worker.lane.stop()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)


async def submit(
    around: Surroundings,
    images: Sequence[bytes],
    operation: Operation = "score",
    **fields: Any,
) -> JobRecord:
    """Make a job of images as an upload does."""
    made = JobRecord(new_id(), "default", "tester", operation, created_at=clock.now())
    job = replace(made, **fields)
    jobs = around.records.jobs
    await jobs.create(job)
    items = []
    for index, image in enumerate(images):
        key = object_key(job.id, index)
        await around.objects.put(key, image)
        items.append(NewItem(index, f"{index}.png", "0" * 64, key, len(image)))
    await jobs.add_items(job.id, items)
    return await jobs.submit(job.id)


async def ended(around: Surroundings, job: JobRecord, *, seconds: float = 60) -> JobRecord:
    """Return the job once it has finished."""
    async with asyncio.timeout(seconds):
        while True:
            now = await around.records.jobs.get(job.tenant, job.id)
            assert now is not None
            if now.is_finished:
                return now
            await asyncio.sleep(0.02)


async def results(around: Surroundings, job: JobRecord) -> list[ItemResult]:
    """Return all images of a job."""
    return list(await around.records.jobs.results(job.id, limit=10_000))


def answer_of(around: Surroundings, job: JobRecord, item: ItemResult) -> bytes:
    """Open the answer (JSON) to an image."""
    assert item.result is not None, item
    return open_result(around.cipher, job.id, item.index, item.result)
