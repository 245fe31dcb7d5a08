"""Metadata that is sealed: found by equal values, read by whoever may, in no store as it is."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.collections.base import Actor, Stores, index_of
from gateway.collections.factory import blinded
from gateway.collections.search import Probe, SearchOptions
from gateway.collections.service import Collections
from gateway.records.encryption import load_cipher
from gateway.records.metadata_seal import MetadataSeal, blind
from gateway.records.store import RecordStore
from gateway.records.types import CollectionRecord, CollectionSettings
from gateway.settings import Settings
from gateway.vectors.base import Match, VectorStore
from gateway.vectors.edge.store import EdgeVectorStore
from gateway.vectors.qdrant import IN_MEMORY, QdrantVectorStore
from tests.support.collections import (
    CALLER,
    OLD,
    TUNING,
    FakeEmbedder,
    candidate,
    collections_on,
    crop_of,
    in_time,
    person,
)

METADATA: Mapping[str, Any] = {"team": "crimson", "age": 42, "score": 0.1, "tall": True}
Open = Callable[[str], AbstractAsyncContextManager[Collections]]


@pytest.fixture
async def opening(tmp_path: Path, migrated_url: str) -> AsyncIterator[Open]:
    """Collections on the same stores, with the setting on or off."""
    vectors: VectorStore = (
        await EdgeVectorStore.open(tmp_path / "vectors", TUNING, min_free_bytes=0)
        if migrated_url.startswith("sqlite")
        else await QdrantVectorStore.open(IN_MEMORY, TUNING, api_key=None, timeout_seconds=5)
    )

    @asynccontextmanager
    async def open_with(seal: Any) -> AsyncIterator[Collections]:
        settings = Settings(home=tmp_path, crop_key_file=tmp_path / "crops.key", seal_metadata=seal)
        sealing = MetadataSeal(load_cipher(settings), is_on=seal == "on")
        records = await RecordStore.open(migrated_url, metadata_seal=sealing)
        stores = Stores(blinded(settings, vectors), records)
        service, _ = collections_on(stores.vectors, records, tmp_path, FakeEmbedder())
        try:
            yield service
        finally:
            await records.close()

    try:
        yield open_with
    finally:
        await vectors.close()


async def enrol(service: Collections, number: int, **metadata: Any) -> None:
    collection = await service.stores.collection(CALLER, "people")
    face = replace(candidate(number), metadata=metadata)
    await service.enrolment.enrol(collection, [face], deadline=in_time())


async def find(service: Collections, number: int = 1, **metadata: Any) -> tuple[Match, ...]:
    collection = await service.stores.collection(CALLER, "people")
    probe = Probe(person(number), OLD, crop_of(number))
    (matches,) = await service.search.find(
        collection, [probe], SearchOptions(5, -1.0, metadata=metadata), deadline=in_time()
    )
    return matches


async def subjects(service: Collections, **metadata: Any) -> set[str]:
    return {match.subject for match in await find(service, **metadata)}


async def stored(service: Collections) -> str:
    """Everything about the faces that the two stores have."""
    collection: CollectionRecord = await service.stores.collection(CALLER, "people")
    page = await service.stores.vectors.scroll(index_of(collection, OLD), limit=100)
    async with service.stores.records._database.read() as connection:
        rows = (await connection.execute(text("SELECT * FROM faces"))).all()
        people = (await connection.execute(text("SELECT * FROM subjects"))).all()
    return f"{[point.metadata for point in page.points]} {rows} {people}"


async def test_filters_find_equal_values_and_nothing_is_legible(opening: Open) -> None:
    async with opening("on") as service:
        await service.create(CALLER, "people", CollectionSettings(keep="crop"))
        await enrol(service, 1, **METADATA)
        await enrol(service, 2, team="azure", age=43, score=0.2, tall=False)
        await enrol(service, 3)
        assert await subjects(service) == {"p1", "p2", "p3"}
        for key, value in METADATA.items():
            assert await subjects(service, **{key: value}) == {"p1"}, key
        # numbers are one type; booleans and texts are others
        assert await subjects(service, age=42.0) == {"p1"}
        assert await subjects(service, age="42") == set()
        assert await subjects(service, tall=1) == set()
        assert await subjects(service, team="crimson", age=43) == set()
        # a value under another key is another value
        assert await subjects(service, city="crimson") == set()
        best = (await find(service))[0]
        assert (best.subject, best.metadata) == ("p1", METADATA)
        everything = await stored(service)
        for secret in ("crimson", "azure", "team", "tall"):
            assert secret not in everything


async def test_what_was_stored_before_is_sealed_and_opened_again(opening: Open) -> None:
    async with opening("off") as service:
        collection = await service.create(CALLER, "people", CollectionSettings())
        await enrol(service, 1, **METADATA)
        await enrol(service, 2, team="azure")
        await enrol(service, 3)
        people = service.stores.records.subjects
        await people.change(collection.id, "p1", {"metadata": {"room": "tower"}}, at=1.0)
        assert "crimson" in await stored(service)
        assert await service.sealing.run() == 0
    async with opening("on") as service:
        # readable at once, and sealed by the gateway's next round
        assert (await find(service))[0].metadata == METADATA
        assert await service.sealing.run() == 3
        assert await service.sealing.run() == 0
        everything = await stored(service)
        assert not any(secret in everything for secret in ("crimson", "azure", "tower"))
        assert await subjects(service, team="crimson") == {"p1"}
        people = service.stores.records.subjects
        found = await people.get(collection.id, "p1", at=2.0)
        assert found is not None
        assert found.metadata == {"room": "tower"}
        actor = Actor(CALLER)
        collection = await service.stores.collection(CALLER, "people")
        receipt = await service.forgetting.subject(collection, "p2", actor)
        assert (receipt.faces, receipt.vectors) == (1, 1)
    async with opening("off") as service:
        assert await service.sealing.run() == 2
        assert "crimson" in await stored(service)
        assert await subjects(service, team="crimson") == {"p1"}


async def test_a_face_that_is_deleted_meanwhile_does_not_come_back(opening: Open) -> None:
    async with opening("off") as service:
        await service.create(CALLER, "people", CollectionSettings())
        await enrol(service, 1, **METADATA)
    async with opening("on") as service:
        collection = await service.stores.collection(CALLER, "people")
        vectors = service.stores.vectors
        retrieve = vectors.retrieve

        async def slowly(index: Any, ids: Any) -> Any:
            points = await retrieve(index, ids)
            if points:
                face = points[0].face_id
                await service.forgetting.face(collection, face, Actor(CALLER))
            return points

        vectors.retrieve = slowly  # type: ignore[method-assign]
        await service.sealing.run()
        assert await vectors.count(index_of(collection, OLD)) == 0
        assert await service.stores.records.faces.page(collection.id, limit=5, over=True) == ()


def test_the_blind_index_tells_nothing_without_its_key() -> None:
    here = blind(b"k" * 32, "default/people", METADATA)
    assert here == blind(b"k" * 32, "default/people", dict(reversed(METADATA.items())))
    other_key = blind(b"x" * 32, "default/people", METADATA)
    other_place = blind(b"k" * 32, "default/others", METADATA)
    for other in (other_key, other_place):
        assert not set(here) & set(other)
        assert not set(here.values()) & set(other.values())
    same_value = blind(b"k" * 32, "default/people", {"a": "x", "b": "x"})
    assert len(set(same_value.values())) == 2
