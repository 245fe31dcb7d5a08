"""A worker that enrols with a Qdrant server: its client with the server's code in this process."""

import asyncio
import json
import time

import pytest

from gateway.collections.base import new_id
from gateway.records.types import CollectionRecord, CollectionSettings
from gateway.settings import Settings
from gateway.vectors.qdrant import IN_MEMORY
from gateway.worker import server_enrolment
from gateway.worker.counted import CountedInference
from gateway.worker.factory import make_pipeline, make_worker
from gateway.worker.server_enrolment import ServerEnrolment
from gateway.worker.upstream import Insistence
from tests.support.fake_inference import photo
from tests.support.job_worker import (
    JobEngine,
    answer_of,
    ended,
    results,
    submit,
    surroundings,
    working,
)
from tests.support.records import migrated_postgres, migrated_url, records

__all__ = ["migrated_postgres", "migrated_url", "records"]


async def add_collection(records) -> CollectionRecord:
    now = time.time()
    settings = CollectionSettings()
    made = CollectionRecord(
        new_id(), "default", "people", "active", settings, None, None, None, now, now
    )
    await records.collections.add(made)
    return made


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """What the worker opened of the vectors."""
    urls, really = [], server_enrolment.open_vectors

    async def open_vectors(settings, metrics):
        urls.append(settings.qdrant_url)
        return await really(settings, metrics)

    monkeypatch.setattr(server_enrolment, "open_vectors", open_vectors)
    return urls


async def test_vectors_are_opened_at_the_first_image_and_each_face_is_enrolled_once(
    records, tmp_path, opened
):
    engine = JobEngine()
    collection = await add_collection(records)
    settings = Settings(home=tmp_path, qdrant_url=IN_MEMORY)
    async with surroundings(settings, records) as around, asyncio.timeout(60):
        counted = CountedInference(engine)
        async with ServerEnrolment(around, make_pipeline(around, counted, None)) as enrolment:
            worker = make_worker(
                around,
                engine,
                counted,
                {"enrol": enrolment.operation()},
                name="w1",
                insistence=Insistence(),
                probe_collections=enrolment.probe,
            )
            async with working(worker):
                await asyncio.sleep(0.3)
                assert opened == []
                job = await submit(
                    around,
                    [photo(seed=1), photo(seed=2), photo(seed=1), photo(faces=0)],
                    "enrol",
                    collection_id=collection.id,
                    collection=collection.name,
                    options={"subject": "ada"},
                )
                done = await ended(around, job)
            await enrolment.probe()
        assert (done.done, done.failed) == (3, 1)
        assert opened == [IN_MEMORY]
        items = await results(around, job)
        answers = [json.loads(answer_of(around, job, item)) for item in items[:3]]
        ids = [answer["faces"][0]["face_id"] for answer in answers]
        assert ids[0] == ids[2] != ids[1]
        assert items[3].code == "no_face"
        assert (await records.faces.count(collection.id))[0] == 2
