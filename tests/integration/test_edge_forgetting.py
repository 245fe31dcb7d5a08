"""What is deleted from Qdrant Edge leaves the disk: its bytes are looked for in every file."""

import asyncio
import contextlib
import dataclasses
import errno
import os
import signal
import struct
from pathlib import Path

import numpy as np
import pytest

from gateway.vectors.base import FacePoint, Vector
from gateway.vectors.edge.store import EdgeVectorStore
from tests.integration.test_edge_engine import (
    DIMENSION,
    PEOPLE,
    TUNING,
    found_by_own_vector,
    points_of,
    until_indexed,
)

SOON = dataclasses.replace(TUNING, purge_seconds=0.3)
NEVER = dataclasses.replace(TUNING, purge_seconds=1e9)
_NUMBERS = 6
"""So many neighbouring numbers of a vector are not in a file by chance."""


def traces(vector: Vector) -> list[bytes]:
    """How files hold a vector [D]: numbers in a row (segments, spools), or each marked (logs)."""
    numbers = vector[3 : 3 + _NUMBERS].astype("<f4")
    marked = b"".join(b"\xfa" + struct.pack(">f", number) for number in numbers)
    return [numbers.tobytes(), numbers.astype(">f4").tobytes(), marked]


def files_with(folder: Path, vector: Vector) -> set[str]:
    """Names of the files that hold the vector."""
    found = set()
    for place, _, names in os.walk(folder):
        for name in names:
            if (Path(place) / name).is_socket():
                continue
            # the engine removes files meanwhile
            with contextlib.suppress(FileNotFoundError):
                data = written(Path(place) / name)
                if any(trace in data for trace in traces(vector)):
                    found.add(name)
    return found


def written(path: Path) -> bytes:
    """Read a file without its holes: most of the engine's files are not written yet."""
    pieces: list[bytes] = []
    with path.open("rb") as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                # nothing was written from there on
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            pieces.append(os.pread(file.fileno(), end - start, start))
    # no hole may bring two pieces together
    return b"\0".join(pieces)


async def until_gone(folder: Path, vectors: list[Vector]) -> None:
    async with asyncio.timeout(60):
        while any(files_with(folder, vector) for vector in vectors):
            await asyncio.sleep(0.1)


async def opened(folder: Path, tuning: object, points: list[FacePoint]) -> EdgeVectorStore:
    assert isinstance(tuning, type(TUNING))
    store = await EdgeVectorStore.open(folder, tuning, min_free_bytes=0)
    await store.create(PEOPLE, dimension=DIMENSION)
    await store.upsert(PEOPLE, points)
    await store.flush(PEOPLE)
    return store


async def stored(store: EdgeVectorStore, points: list[FacePoint]) -> list[Vector]:
    """The vectors as the engine holds them, in the order of the points."""
    found = await store.retrieve(PEOPLE, [point.face_id for point in points])
    by_id = {point.face_id: point.vector for point in found}
    return [by_id[point.face_id] for point in points]


@pytest.mark.parametrize(("number", "built"), [(60, False), (100, True)])
async def test_deleted_vectors_leave_the_disk(tmp_path: Path, number: int, built: bool) -> None:
    points = points_of(number)
    store = await opened(tmp_path, SOON, points)
    try:
        if built:
            await until_indexed(store, shards=2)
        assert (await store.info(PEOPLE)).indexed == (number if built else 0)
        vectors = await stored(store, points)
        # the log has them, and the segments
        assert len(files_with(tmp_path, vectors[0])) >= 2
        gone = points[:3]
        assert await store.delete(PEOPLE, [gone[0].face_id, gone[1].face_id]) == 2
        assert await store.delete_subject(PEOPLE, gone[2].subject) == 1
        await until_gone(tmp_path, vectors[:3])
        assert await store.count(PEOPLE) == number - 3
        assert await found_by_own_vector(store, points[3:]) == number - 3
        assert files_with(tmp_path, vectors[3])
    finally:
        await store.close()
    assert not any(files_with(tmp_path, vector) for vector in vectors[:3])


async def test_a_shard_of_which_nothing_is_left_goes(tmp_path: Path) -> None:
    points = points_of(120)
    store = await opened(tmp_path, SOON, points[:100])
    try:
        await store.upsert(PEOPLE, points[100:])
        await until_indexed(store, shards=2)
        vectors = await stored(store, points)
        await store.delete(PEOPLE, [point.face_id for point in points[:100]])
        await until_gone(tmp_path, vectors[:100:10])
        await until_indexed(store, shards=1)
        assert await found_by_own_vector(store, points[100:]) == 20
    finally:
        await store.close()


async def test_what_is_deleted_during_a_build_leaves_the_disk(tmp_path: Path) -> None:
    points = points_of(2000)
    slow = dataclasses.replace(SOON, seal_points=2000)
    store = await opened(tmp_path, slow, points)
    try:
        async with asyncio.timeout(60):
            while not list(tmp_path.rglob("*.spool/*.points")):
                await asyncio.sleep(0.005)
        vectors = await stored(store, points[:5])
        assert await store.delete(PEOPLE, [point.face_id for point in points[:5]]) == 5
        assert await store.building()
        await until_gone(tmp_path, vectors)
        assert await store.count(PEOPLE) == 1995
    finally:
        await store.close()


async def test_a_killed_engine_remembers_what_to_forget(tmp_path: Path) -> None:
    points = points_of(60)
    store = await opened(tmp_path, NEVER, points)
    try:
        (vector,) = await stored(store, points[:1])
        await store.delete(PEOPLE, [points[0].face_id])
        await store.flush(PEOPLE)
        assert store.engine_pid is not None
        os.kill(store.engine_pid, signal.SIGKILL)
    finally:
        await store.close()
    assert files_with(tmp_path, vector)
    again = await EdgeVectorStore.open(tmp_path, SOON, min_free_bytes=0)
    try:
        await until_gone(tmp_path, [vector])
        assert await again.count(PEOPLE) == 59
    finally:
        await again.close()


async def test_a_dropped_collection_leaves_the_disk(tmp_path: Path) -> None:
    points = points_of(150)
    store = await opened(tmp_path, NEVER, points[:120])
    try:
        await store.upsert(PEOPLE, points[120:])
        vectors = await stored(store, points)
        assert all(files_with(tmp_path, vector) for vector in vectors[::30])
        assert await store.drop(PEOPLE)
        assert not any(files_with(tmp_path, vector) for vector in vectors[::30])
    finally:
        await store.close()


def test_traces_are_seen(tmp_path: Path) -> None:
    vector = np.random.default_rng(5).standard_normal(DIMENSION).astype(np.float32)
    assert not files_with(tmp_path, vector)
    (tmp_path / "a").write_bytes(b"xx" + vector.tobytes() + b"yy")
    with (tmp_path / "b").open("wb") as sparse:
        sparse.truncate(50 << 20)
        sparse.seek(20 << 20)
        sparse.write(vector.tobytes())
    assert files_with(tmp_path, vector) == {"a", "b"}
    assert len(written(tmp_path / "b")) < 1 << 20
