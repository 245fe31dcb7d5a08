"""`aurum vectors`: moving between homes, checking, repairing."""

import asyncio
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from gateway.collections.base import index_of
from gateway.errors import StorageUnavailableError
from gateway.records.types import CollectionSettings
from gateway.settings import CHECKOUT
from gateway.vectors.base import FacePoint, VectorCollection, VectorStore
from gateway.vectors.edge.store import EdgeVectorStore
from gateway.vectors.qdrant import IN_MEMORY, QdrantVectorStore
from tests.support.collections import (
    CALLER,
    OLD,
    TUNING,
    FakeEmbedder,
    candidate,
    collections_on,
    edge_stores,
    in_time,
)
from tests.support.command_line import Finished, run_in_process
from tools.vector_copy import MoveError, Progress, move_all

PEOPLE = VectorCollection("default", "people", OLD)
OTHERS = VectorCollection("default", "others", "00000000000000b2")


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[VectorStore]:
    store = await EdgeVectorStore.open(tmp_path / "vectors", TUNING, min_free_bytes=0)
    for home, number in ((PEOPLE, 1234), (OTHERS, 3)):
        await store.create(home, dimension=16)
        vectors = np.random.default_rng(number).standard_normal((number, 16)).astype(np.float32)
        points = [
            FacePoint(str(uuid.uuid4()), vector, f"s{i}", "default", i, {"size": 9.5}, {"n": i})
            for i, vector in enumerate(vectors)
        ]
        await store.upsert(home, points)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def server() -> AsyncIterator[VectorStore]:
    url = os.environ.get("AURUM_TEST_QDRANT_URL", IN_MEMORY)
    store = await QdrantVectorStore.open(url, TUNING, api_key=None, timeout_seconds=10)
    try:
        yield store
    finally:
        for home in (PEOPLE, OTHERS):
            await store.drop(home)
        await store.close()


def silent(*_: object) -> None:
    return


def progress(tmp_path: Path) -> Progress:
    return Progress(tmp_path / "move.json", source="a", target="b")


async def test_everything_moves_there_and_back(
    edge: VectorStore, server: VectorStore, tmp_path: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    moved = await move_all(
        edge,
        server,
        progress(tmp_path),
        lambda _, what, done, total: steps.append((what, done, total)),
    )
    assert [(each.collection, each.points) for each in moved] == [(OTHERS, 3), (PEOPLE, 1234)]
    assert ("copied", 1234, 1234) in steps
    assert ("verified", 1234, 1234) in steps
    again = await EdgeVectorStore.open(tmp_path / "again", TUNING, min_free_bytes=0)
    try:
        back = await move_all(server, again, progress(tmp_path), silent)
        assert [each.checksum for each in back] == [each.checksum for each in moved]
        assert await again.count(PEOPLE) == 1234
    finally:
        await again.close()
    assert not (tmp_path / "move.json").exists()


class Breaking:
    """A target whose connection breaks after some pages."""

    def __init__(self, real: VectorStore, pages: int) -> None:
        self._real = real
        self.pages = pages
        self.written = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    async def upsert(self, home: VectorCollection, points: list[FacePoint]) -> None:
        if self.pages == 0:
            raise StorageUnavailableError("the connection broke")
        self.pages -= 1
        self.written += len(points)
        await self._real.upsert(home, points)


async def test_a_broken_move_goes_on_where_it_was(
    edge: VectorStore, server: VectorStore, tmp_path: Path
) -> None:
    breaking = Breaking(server, pages=3)
    with pytest.raises(StorageUnavailableError):
        await move_all(edge, breaking, progress(tmp_path), silent)
    assert breaking.written == 1003
    breaking.pages, breaking.written = 99, 0
    moved = await move_all(edge, breaking, progress(tmp_path), silent)
    assert [each.points for each in moved] == [3, 1234]
    # the small collection, and what was left of the large one
    assert breaking.written == 3 + 234


async def test_a_difference_is_told(edge: VectorStore, server: VectorStore, tmp_path: Path) -> None:
    await move_all(edge, server, progress(tmp_path), silent)
    (point, *_) = (await edge.scroll(PEOPLE, limit=1)).points
    changed = dataclasses.replace(point, vector=-point.vector)

    class Corrupting(Breaking):
        async def upsert(self, home: VectorCollection, points: list[FacePoint]) -> None:
            bad = [changed if each.face_id == point.face_id else each for each in points]
            await self._real.upsert(home, bad)

    with pytest.raises(MoveError, match=point.face_id):
        await move_all(edge, Corrupting(server, 0), progress(tmp_path), silent)
    stray = dataclasses.replace(point, face_id=str(uuid.uuid4()))
    await server.upsert(PEOPLE, [point, stray])
    with pytest.raises(MoveError, match="1234 points in the source, 1235"):
        await move_all(edge, server, progress(tmp_path), silent)


def aurum(home: Path, *arguments: str) -> Finished:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AURUM_")}
    return run_in_process(
        ["vectors", *arguments],
        environment=clean | {"AURUM_HOME": str(home), "COLUMNS": "200"},
        folder=CHECKOUT,
    )


async def test_check_finds_and_repairs(tmp_path: Path) -> None:
    async with edge_stores(tmp_path) as stores:
        service, _ = collections_on(stores.vectors, stores.records, tmp_path, FakeEmbedder())
        collection = await service.create(CALLER, "people", CollectionSettings())
        enrolled = await service.enrolment.enrol(
            collection, [candidate(n) for n in range(5)], deadline=in_time()
        )
        faces = [each.face for each in enrolled]
    run = await asyncio.to_thread(aurum, tmp_path, "check")
    assert (run.returncode, run.stdout.strip()) == (0, "Vectors and records agree.")
    async with edge_stores(tmp_path) as stores:
        await stores.vectors.delete(index_of(collection, OLD), [faces[0].id, faces[1].id])
        await stores.records.faces.remove([faces[2].id])
    run = await asyncio.to_thread(aurum, tmp_path, "check")
    assert run.returncode == 1
    assert [word for word in run.stdout.split() if word.isdigit()] == ["1", "2"]
    run = await asyncio.to_thread(aurum, tmp_path, "check", "--repair")
    assert run.returncode == 0, run.stderr
    run = await asyncio.to_thread(aurum, tmp_path, "check")
    assert "agree" in run.stdout
    run = await asyncio.to_thread(aurum, tmp_path, "move", "--to", "server")
    assert run.returncode == 1
    assert "AURUM_QDRANT_URL" in run.stderr
