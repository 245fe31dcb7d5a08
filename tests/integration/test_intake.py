"""Enrolling and looking for images: for whom the cache is asked, with real homes beside it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cache.factory import open_cache
from gateway.collections.image_analysis import NamedImage
from gateway.collections.intake import EnrolOptions, Intake
from gateway.collections.search import SearchOptions
from gateway.collections.service import Collections
from gateway.concurrency import AdmissionControl, BackgroundTasks, CpuPool
from gateway.images import ImageLimits
from gateway.pipeline import Pipeline, Selection
from gateway.records.types import CollectionRecord, CollectionSettings
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.types import Asked, Caller, Need
from tests.support.collections import FakeEmbedder, collections_on, edge_stores, in_time
from tests.support.fake_inference import FakeInference, photo

ENROL = EnrolOptions(None, "largest", None, {}, Selection(None, 0.5))


@dataclass
class World:
    """Everything a test touches."""

    intake: Intake
    service: Collections
    engine: FakeInference


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    engine, metrics, workers = FakeInference(), Metrics(), CpuPool(1)
    async with (
        edge_stores(tmp_path) as stores,
        BackgroundTasks() as background,
        open_cache(Settings(), engine, metrics, background, release="t") as answers,
    ):
        assert answers is not None
        async with asyncio.timeout(60):
            while not answers.ask("0" * 64, asked=Asked(Need.EMBEDDING), tenant="a").fields:
                await asyncio.sleep(0.01)
        limits = ImageLimits(10**6, 1)
        pipeline = Pipeline(
            engine,
            limits=limits,
            admission=AdmissionControl(8),
            cpu_pool=workers,
            metrics=metrics,
            cache=answers,
        )
        service, _ = collections_on(stores.vectors, stores.records, tmp_path, FakeEmbedder())
        async with service.running():
            yield World(Intake(pipeline, service), service, engine)
    workers.close()


async def make(world: World, tenant: str, name: str) -> CollectionRecord:
    return await world.service.create(Caller(tenant, "tester"), name, CollectionSettings())


async def enrol(world: World, collection: CollectionRecord, seed: int) -> None:
    image = NamedImage(photo(seed=seed), None)
    await world.intake.enrol_images(collection, [image], ENROL, deadline=in_time())


async def search(world: World, collection: CollectionRecord, seed: int) -> int:
    current = await world.service.stores.collection(
        Caller(collection.tenant, "tester"), collection.name
    )
    searched = await world.intake.search_image(
        current,
        photo(seed=seed),
        SearchOptions(5, 0.5),
        all_faces=False,
        selection=Selection(None, 0.5),
        deadline=in_time(),
    )
    (found,) = searched.faces
    return len(found.matches)


async def test_tenants_share_no_cached_answer(world: World) -> None:
    ours, again = await make(world, "ours", "a"), await make(world, "ours", "b")
    theirs = await make(world, "theirs", "a")
    await enrol(world, ours, 1)
    assert len(world.engine.needs) == 1
    # the same tenant is answered from the cache, in whichever collection
    await enrol(world, again, 1)
    assert await search(world, ours, 1) == 1
    assert len(world.engine.needs) == 1
    # another one is not, enrolling or searching
    await enrol(world, theirs, 1)
    assert len(world.engine.needs) == 2
    assert await search(world, ours, 2) == 0
    assert await search(world, theirs, 2) == 0
    assert len(world.engine.needs) == 4
