"""Contract of every vector store: Qdrant Edge, and a Qdrant server through its client.

The server tests use the server named by `AURUM_TEST_QDRANT_URL`; without one the same code runs on
the client's in-memory engine.
"""

import asyncio
import dataclasses
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from gateway.errors import StorageUnavailableError
from gateway.vectors.base import (
    DimensionMismatchError,
    UnknownVectorCollectionError,
    VectorCollection,
    VectorStore,
)
from gateway.vectors.edge.store import EdgeVectorStore
from gateway.vectors.metered import MeteredVectorStore
from tests.support.vectors import (
    DIMENSION,
    TUNING,
    a_collection,
    collection,
    cosine,
    points_of,
    store,
    unit_vectors,
)

__all__ = ["collection", "store"]


async def test_a_point_is_read_back_unchanged(
    store: VectorStore, collection: VectorCollection
) -> None:
    (point,) = points_of(unit_vectors(1))
    await store.upsert(collection, [point])
    (found,) = await store.retrieve(collection, [point.face_id])
    np.testing.assert_allclose(found.vector, point.vector, atol=1e-6)
    empty = np.zeros(0, np.float32)
    assert dataclasses.replace(found, vector=empty) == dataclasses.replace(point, vector=empty)


async def test_a_store_reports_its_health(store: VectorStore, collection: VectorCollection) -> None:
    before = await store.health()
    assert before.collections is not None
    other = a_collection()
    await store.create(other, dimension=DIMENSION)
    after = await store.health()
    assert after.collections == before.collections + 1
    assert f"{after.collections} collections" in after.detail
    await store.drop(other)


async def test_timed_calls_return_the_same_and_are_reported(
    store: VectorStore, collection: VectorCollection
) -> None:
    reported: list[tuple[str, float, bool]] = []
    ticks = iter(range(1000))
    timed = MeteredVectorStore(
        store, lambda *call: reported.append(call), lambda: float(next(ticks))
    )
    (point,) = points_of(unit_vectors(1))
    await timed.upsert(collection, [point])
    await timed.flush(collection)
    (match,) = await timed.search(collection, point.vector, limit=1, min_similarity=0.5)
    assert match.face_id == point.face_id
    assert (await timed.scroll(collection, limit=5)).next_cursor is None
    assert len(await timed.retrieve(collection, [point.face_id])) == 1
    assert (await timed.count(collection), (await timed.info(collection)).points) == (1, 1)
    assert await timed.delete_subject(collection, "none") == 0
    assert await timed.delete(collection, [point.face_id]) == 1
    assert collection in await timed.collections()
    other = a_collection()
    await timed.create(other, dimension=DIMENSION)
    assert await timed.drop(other)
    with pytest.raises(UnknownVectorCollectionError):
        await timed.count(other)
    assert await timed.health() == await store.health()
    operations = "upsert flush search scroll retrieve count info delete delete collections create"
    assert [call[0] for call in reported] == [*operations.split(), "drop", "count"]
    assert {call[1:] for call in reported} == {(1.0, True)}, (
        "an unknown collection is not a failure"
    )


async def test_a_lost_store_is_reported(tmp_path: Path) -> None:
    reported: list[tuple[str, float, bool]] = []
    gone = await EdgeVectorStore.open(tmp_path / "vectors", TUNING, min_free_bytes=0)
    await gone.create(a_collection(), dimension=DIMENSION)
    await gone.close()
    timed = MeteredVectorStore(gone, lambda *call: reported.append(call), time.monotonic)
    with pytest.raises(StorageUnavailableError):
        await timed.count(a_collection())
    assert [(call[0], call[2]) for call in reported] == [("count", False)]
    with pytest.raises(StorageUnavailableError):
        await gone.health()


async def test_upsert_replaces_by_id(store: VectorStore, collection: VectorCollection) -> None:
    first, second = unit_vectors(2)
    (point,) = points_of(first[None])
    await store.upsert(collection, [point])
    await store.upsert(collection, [dataclasses.replace(point, vector=second, subject="new")])
    assert await store.count(collection) == 1
    (match,) = await store.search(collection, second, limit=5, min_similarity=-1)
    assert (match.subject, round(match.similarity, 4)) == ("new", 1.0)


async def test_search_returnscosines_best_first(
    store: VectorStore, collection: VectorCollection
) -> None:
    vectors = unit_vectors(50)
    points = points_of(vectors)
    await store.upsert(collection, points)
    probe = unit_vectors(1, seed=2)[0]
    found = await store.search(collection, probe * 3, limit=7, min_similarity=-1)
    cosines = vectors @ probe
    expected = np.argsort(-cosines)[:7]
    assert [match.face_id for match in found] == [points[i].face_id for i in expected]
    np.testing.assert_allclose([m.similarity for m in found], cosines[expected], atol=1e-5)
    assert found[0].metadata == points[expected[0]].metadata


async def test_search_stops_at_the_threshold(
    store: VectorStore, collection: VectorCollection
) -> None:
    vectors = unit_vectors(40)
    await store.upsert(collection, points_of(vectors))
    cosines = np.sort(vectors @ vectors[0])[::-1]
    threshold = float(cosines[4] + cosines[5]) / 2
    found = await store.search(collection, vectors[0], limit=40, min_similarity=threshold)
    assert len(found) == 5
    assert all(match.similarity >= threshold for match in found)
    assert not await store.search(collection, -vectors[0], limit=5, min_similarity=0.99)


async def test_grouped_search_returns_the_best_face_of_each_subject(
    store: VectorStore, collection: VectorCollection
) -> None:
    vectors = unit_vectors(60)
    # the nearest 40 faces belong to one subject, so grouping has to search further
    probe = vectors[0]
    crowd = probe + 0.02 * unit_vectors(40, seed=3)
    points = [dataclasses.replace(p, subject="crowd") for p in points_of(crowd)]
    await store.upsert(collection, points + points_of(vectors[1:], subjects=10))
    found = await store.search(collection, probe, limit=5, min_similarity=-1)
    best: dict[str, float] = {"crowd": float(max(cosine(v, probe) for v in crowd))}
    for index, vector in enumerate(vectors[1:]):
        subject = f"s{index % 10}"
        best[subject] = max(best.get(subject, -1.0), cosine(vector, probe))
    expected = sorted(best, key=lambda subject: -best[subject])[:5]
    assert [match.subject for match in found] == expected
    faces = await store.search(collection, probe, limit=5, min_similarity=-1, by_subject=False)
    assert {match.subject for match in faces} == {"crowd"}


async def test_scrolling_returns_every_point_once(
    store: VectorStore, collection: VectorCollection
) -> None:
    points = points_of(unit_vectors(53))
    await store.upsert(collection, points)
    seen: list[str] = []
    cursor = None
    pages = 0
    while True:
        page = await store.scroll(collection, limit=10, cursor=cursor)
        seen += [point.face_id for point in page.points]
        pages += 1
        cursor = page.next_cursor
        if cursor is None:
            break
    assert pages == 6
    assert sorted(seen) == sorted(point.face_id for point in points)
    assert len(set(seen)) == 53


async def test_deletions_return_their_number(
    store: VectorStore, collection: VectorCollection
) -> None:
    points = points_of(unit_vectors(30), subjects=3)
    await store.upsert(collection, points)
    assert await store.delete(collection, [points[0].face_id, str(uuid.uuid4())]) == 1
    assert await store.delete(collection, [points[0].face_id]) == 0
    assert await store.delete(collection, []) == 0
    assert await store.delete_subject(collection, "s1") == 10
    assert await store.delete_subject(collection, "s1") == 0
    assert await store.count(collection) == 19
    found = await store.search(
        collection, points[0].vector, limit=30, min_similarity=-1, by_subject=False
    )
    assert points[0].face_id not in {match.face_id for match in found}
    assert "s1" not in {match.subject for match in found}


async def test_collections_are_separate(store: VectorStore, collection: VectorCollection) -> None:
    other = dataclasses.replace(collection, space="00000000000000b2")
    await store.create(other, dimension=DIMENSION)
    try:
        (point,) = points_of(unit_vectors(1))
        await store.upsert(other, [point])
        assert await store.count(collection) == 0
        assert {collection, other} <= set(await store.collections())
    finally:
        assert await store.drop(other)
    assert not await store.drop(other)
    assert other not in await store.collections()


async def test_creating_twice_keeps_the_points(
    store: VectorStore, collection: VectorCollection
) -> None:
    await store.upsert(collection, points_of(unit_vectors(3)))
    await store.create(collection, dimension=DIMENSION)
    assert await store.count(collection) == 3
    with pytest.raises(DimensionMismatchError):
        await store.create(collection, dimension=DIMENSION + 1)


async def test_vectors_of_another_length_are_refused(
    store: VectorStore, collection: VectorCollection
) -> None:
    (point,) = points_of(unit_vectors(1))
    short = point.vector[:-1]
    with pytest.raises(DimensionMismatchError):
        await store.upsert(collection, [point, dataclasses.replace(point, vector=short)])
    with pytest.raises(DimensionMismatchError):
        await store.search(collection, short, limit=1, min_similarity=0)
    assert await store.count(collection) == 0


async def test_the_error_names_an_unknown_collection(store: VectorStore) -> None:
    missing = a_collection()
    (point,) = points_of(unit_vectors(1))
    for call in (
        store.upsert(missing, [point]),
        store.delete(missing, [point.face_id]),
        store.delete_subject(missing, "s0"),
        store.search(missing, point.vector, limit=1, min_similarity=0),
        store.scroll(missing, limit=1),
        store.retrieve(missing, [point.face_id]),
        store.count(missing),
        store.info(missing),
        store.flush(missing),
    ):
        with pytest.raises(UnknownVectorCollectionError):
            await call


async def test_info_and_flush(store: VectorStore, collection: VectorCollection) -> None:
    await store.upsert(collection, points_of(unit_vectors(9)))
    await asyncio.gather(*(store.flush(collection) for _ in range(5)))
    info = await store.info(collection)
    assert (info.dimension, info.points) == (DIMENSION, 9)
    assert info.shards >= 1


def test_names_of_collections_are_parsed_back() -> None:
    collection = VectorCollection("default", "My.team-1_x", "0123456789abcdef")
    assert VectorCollection.parse(collection.name) == collection
    for foreign in ("people", "aurum~a~b", "aurum~a~b~xyz", "aurum~~b~0123456789abcdef"):
        assert VectorCollection.parse(foreign) is None
