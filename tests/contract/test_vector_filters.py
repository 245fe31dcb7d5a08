"""Contract of filters in every vector store (see `test_vectors.py`)."""

import dataclasses

import pytest

from gateway.vectors.base import FaceFilter, VectorCollection, VectorStore
from tests.support.vectors import (
    by_id,
    collection,
    cosine,
    points_of,
    store,
    unit_vectors,
)

__all__ = ["collection", "store"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (FaceFilter(subject="s3"), {3, 13}),
        (FaceFilter(metadata={"n": 7}), {7}),
        (FaceFilter(metadata={"f": 2.5}), {10}),
        (FaceFilter(metadata={"team": "red", "n": 7}), {7}),
        (FaceFilter(metadata={"team": "blue", "n": 7}), set()),
        (FaceFilter(subject="s4", metadata={"team": "blue"}), {4, 14}),
    ],
)
async def test_filters_apply_to_search_scroll_and_count(
    store: VectorStore, collection: VectorCollection, where: FaceFilter, expected: set[int]
) -> None:
    vectors = unit_vectors(20)
    await store.upsert(collection, points_of(vectors, subjects=10))
    found = await store.search(
        collection, vectors[0], limit=20, min_similarity=-1, where=where, by_subject=False
    )
    page = await store.scroll(collection, limit=20, where=where)
    assert {match.metadata["n"] for match in found} == expected
    assert {point.metadata["n"] for point in page.points} == expected
    assert await store.count(collection, where) == len(expected)


KINDS = [True, False, 1, 0, 1.0, 0.0, -0.0, 42, 42.0, 0.5, "true", "1", "0", "", 2**53, 2**53 - 1]


def alike(a: object, b: object) -> bool:
    """Equality as in JSON: true is not 1, and 42 is 42.0."""
    return (isinstance(a, bool), isinstance(a, str), a) == (
        isinstance(b, bool),
        isinstance(b, str),
        b,
    )


@pytest.mark.parametrize("key", ["kind", "team"], ids=["plain", "indexed"])
async def test_filters_distinguish_true_one_and_text(
    store: VectorStore, collection: VectorCollection, key: str
) -> None:
    vectors = unit_vectors(len(KINDS))
    points = [
        dataclasses.replace(point, metadata={key: value, "other": True}, subject=f"s{number % 2}")
        for number, (point, value) in enumerate(zip(points_of(vectors), KINDS, strict=True))
    ]
    await store.upsert(collection, points)
    for asked in [*KINDS, 41, -42, 2**53 - 2, "True", "42", 0.25]:
        where = FaceFilter(metadata={key: asked})
        expected = {p.face_id for p in points if alike(p.metadata[key], asked)}
        page = await store.scroll(collection, limit=50, where=where)
        assert {point.face_id for point in page.points} == expected, asked
        assert await store.count(collection, where) == len(expected), asked
        found = await store.search(
            collection, vectors[0], limit=50, min_similarity=-1, where=where, by_subject=False
        )
        assert {match.face_id for match in found} == expected, asked
        half = FaceFilter("s1", {key: asked, "other": True})
        expected = {p.face_id for p in points if p.face_id in expected and p.subject == "s1"}
        page = await store.scroll(collection, limit=50, where=half)
        assert {point.face_id for point in page.points} == expected, asked
    for nothing in ({key: True, "other": False}, {"others": True}):
        assert await store.count(collection, FaceFilter(metadata=nothing)) == 0


@pytest.mark.parametrize("key", ["kind", "team"], ids=["plain", "indexed"])
async def test_floats_of_many_digits_are_found_and_kept(
    store: VectorStore, collection: VectorCollection, key: str
) -> None:
    values = [float(2**53 - 1), 1e15 + 0.5, 94.52706955539223, 12.088995980580641, 0.1, -1e-300]
    points = [
        dataclasses.replace(point, metadata={key: value})
        for point, value in zip(points_of(unit_vectors(len(values))), values, strict=True)
    ]
    await store.upsert(collection, points)
    for point, value in zip(points, values, strict=True):
        for asked in {value, int(value) if value.is_integer() else value}:
            page = await store.scroll(collection, limit=9, where=FaceFilter(metadata={key: asked}))
            assert [(each.face_id, each.metadata) for each in page.points] == [
                (point.face_id, {key: value})
            ]


async def test_filters_exclude_faces_by_id(
    store: VectorStore, collection: VectorCollection
) -> None:
    vectors = unit_vectors(12)
    points = points_of(vectors, subjects=2)
    await store.upsert(collection, points)
    nearest = await store.search(collection, vectors[0], limit=2, min_similarity=-1)
    assert nearest[0].face_id == points[0].face_id
    where = FaceFilter(subject="s0", without=(points[0].face_id, points[4].face_id))
    left = {p.face_id for p in points if p.subject == "s0"} - set(where.without)
    page = await store.scroll(collection, limit=50, where=where)
    assert {point.face_id for point in page.points} == left
    assert await store.count(collection, FaceFilter(without=where.without)) == 10
    # another face of the same subject takes its place
    found = await store.search(collection, vectors[0], limit=2, min_similarity=-1, where=where)
    best = max(left, key=lambda each: cosine(vectors[0], by_id(points)[each].vector))
    assert [match.face_id for match in found] == [best]
