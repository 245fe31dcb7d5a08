"""Collections on real homes, for the tests: Qdrant Edge with SQLite, its client with PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.collections.base import Actor
from gateway.collections.search import Probe, SearchOptions
from gateway.collections.service import Collections
from gateway.records.store import RecordStore
from gateway.records.types import CollectionRecord, CollectionSettings
from gateway.vectors.base import VectorStore
from gateway.vectors.qdrant import IN_MEMORY, QdrantVectorStore
from tests.support.collections import (
    CALLER,
    OLD,
    TUNING,
    CountingCache,
    FakeEmbedder,
    candidate,
    collections_on,
    crop_of,
    edge_stores,
    in_time,
    person,
)

ACTOR = Actor(CALLER, "req-1")


@dataclass
class World:
    """Everything a test touches."""

    service: Collections
    embedder: FakeEmbedder
    cache: CountingCache
    records: RecordStore
    vectors: VectorStore


@pytest.fixture(params=["edge+sqlite", "server+postgresql"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """Collections on one kind of home after the other."""
    embedder = FakeEmbedder()
    if request.param == "edge+sqlite":
        async with edge_stores(tmp_path) as stores:
            service, cache = collections_on(stores.vectors, stores.records, tmp_path, embedder)
            async with service.running():
                yield World(service, embedder, cache, stores.records, stores.vectors)
        return
    server: str = request.getfixturevalue("postgres")
    records = await RecordStore.open(server)
    vectors = await QdrantVectorStore.open(IN_MEMORY, TUNING, api_key=None, timeout_seconds=5)
    for left in await records.collections.all():
        await records.collections.remove(left.id)
    service, cache = collections_on(vectors, records, tmp_path, embedder)
    async with service.running():
        yield World(service, embedder, cache, records, vectors)
    await vectors.close()
    await records.close()


async def make(world: World, **settings: Any) -> CollectionRecord:
    return await world.service.create(CALLER, "people", CollectionSettings(**settings))


async def current(world: World) -> CollectionRecord:
    return await world.service.stores.collection(CALLER, "people")


async def enrol(world: World, *numbers: int, subject: str | None = None) -> list[str]:
    enrolled = await world.service.enrolment.enrol(
        await current(world), [candidate(n, subject) for n in numbers], deadline=in_time()
    )
    return [each.face.id for each in enrolled]


async def who(world: World, number: int, *, space: str = OLD) -> list[str]:
    probe = Probe(person(number, space), space, crop_of(number))
    (matches,) = await world.service.search.find(
        await current(world), [probe], SearchOptions(5, 0.8), deadline=in_time()
    )
    return [match.subject for match in matches]


async def until_switched(world: World) -> None:
    async with asyncio.timeout(60):
        while True:
            migration = (await current(world)).migration
            assert migration is not None
            assert migration.state != "failed", migration.detail
            if migration.state == "switched":
                return
            await asyncio.sleep(0.05)
