"""Qdrant Edge behind its process: growing, indexing beside searches, dying, a full disk."""

import asyncio
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import qdrant_edge as qe

from gateway.errors import InsufficientStorageError, StorageUnavailableError
from gateway.vectors.base import (
    FaceFilter,
    FacePoint,
    VectorCollection,
    VectorTuning,
)
from gateway.vectors.edge.shard import EdgeShard
from gateway.vectors.edge.store import EdgeVectorStore
from gateway.vectors.payload import FLAGS, VERSION

DIMENSION = 32
PEOPLE = VectorCollection("default", "people", "00000000000000a1")
TUNING = VectorTuning(
    hnsw_m=16,
    hnsw_ef_construct=100,
    hnsw_ef_search=128,
    quantization="int8",
    oversampling=2.0,
    indexed_metadata=(),
    seal_points=100,
    purge_seconds=900,
    threads=1,
    shard_number=1,
    replication_factor=1,
)


def points_of(number: int, seed: int = 1) -> list[FacePoint]:
    vectors = np.random.default_rng(seed).standard_normal((number, DIMENSION))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return [
        FacePoint(str(uuid.uuid4()), vector, f"s{index}", "default", 1000.0 + index)
        for index, vector in enumerate(unit)
    ]


async def until_indexed(store: EdgeVectorStore, *, shards: int) -> None:
    async with asyncio.timeout(60):
        while (
            (info := await store.info(PEOPLE)).shards != shards
            or await store.building()
            or (shards > 1 and not info.indexed)
        ):
            await asyncio.sleep(0.05)


def shard_folders(folder: Path) -> set[str]:
    return {path.name for path in (folder / PEOPLE.name).iterdir() if path.is_dir()}


async def found_by_own_vector(store: EdgeVectorStore, points: list[FacePoint]) -> int:
    found = 0
    for point in points:
        (match,) = await store.search(PEOPLE, point.vector, limit=1, min_similarity=0.999)
        found += match.face_id == point.face_id
    return found


@asynccontextmanager
async def opened(
    folder: Path, tuning: VectorTuning = TUNING, *, free: int = 0
) -> AsyncIterator[EdgeVectorStore]:
    """Open the store of a folder, and close it again."""
    store = await EdgeVectorStore.open(folder, tuning, min_free_bytes=free)
    try:
        yield store
    finally:
        await store.close()


async def test_shards_are_sealed_indexed_and_merged(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(PEOPLE, dimension=DIMENSION)
        points = points_of(430)
        answered_while_building = 0
        for start in range(0, 430, 10):
            await store.upsert(PEOPLE, points[start : start + 10])
            if await store.building():
                hits = await store.search(
                    PEOPLE, points[start].vector, limit=1, min_similarity=0.999
                )
                answered_while_building += hits[0].face_id == points[start].face_id
        assert answered_while_building > 0
        # four sealed shards of 100 become one of 400, beside the open one of 30
        await until_indexed(store, shards=2)
        info = await store.info(PEOPLE)
        assert (info.points, info.indexed) == (430, 400)
        assert await found_by_own_vector(store, points) == 430
        # what they replaced is removed when nothing else is to be done
        async with asyncio.timeout(60):
            while len(shard_folders(tmp_path)) != 2:
                await asyncio.sleep(0.05)


async def test_an_empty_shard_lies_ready_before_it_is_needed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(PEOPLE, dimension=DIMENSION)
        points = points_of(120)
        await store.upsert(PEOPLE, points[:40])
        assert len(shard_folders(tmp_path)) == 1
        await store.upsert(PEOPLE, points[40:90])
        async with asyncio.timeout(60):
            while len(shard_folders(tmp_path)) != 2:
                await asyncio.sleep(0.02)
        (spare,) = shard_folders(tmp_path) - {"000001"}
        assert (await store.info(PEOPLE)).shards == 1
        await store.upsert(PEOPLE, points[90:])
        assert (await store.info(PEOPLE)).shards == 2
        # it is the one that was taken
        manifest = json.loads((tmp_path / PEOPLE.name / "manifest.json").read_text())
        assert manifest["shards"][-1]["folder"] == spare
        assert await found_by_own_vector(store, points) == 120


async def test_a_rebuild_that_fails_is_tried_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(PEOPLE, dimension=DIMENSION)
        points = points_of(100)
        await store.upsert(PEOPLE, points)
        assert store.engine_pid is not None
        async with asyncio.timeout(60):
            while not (builders := psutil.Process(store.engine_pid).children()):
                await asyncio.sleep(0.005)
        builders[0].kill()
        await until_indexed(store, shards=2)
        assert (await store.info(PEOPLE)).indexed == 100
        assert "ended with -9, again in 2 s" in (tmp_path / "engine.log").read_text()


async def test_recall_after_indexing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(PEOPLE, dimension=DIMENSION)
        points = points_of(450)
        await store.upsert(PEOPLE, points[:400])
        await store.upsert(PEOPLE, points[400:])
        await until_indexed(store, shards=2)
        matrix = np.stack([point.vector for point in points])
        hits = 0
        for probe in points_of(40, seed=9):
            expected = {points[i].face_id for i in np.argsort(-(matrix @ probe.vector))[:10]}
            got = await store.search(PEOPLE, probe.vector, limit=10, min_similarity=-1)
            hits += len(expected & {match.face_id for match in got})
        assert hits / 400 >= 0.98


async def test_points_of_an_older_form_are_written_anew(tmp_path: Path) -> None:
    points = [
        dataclasses.replace(point, metadata={"vip": number % 3 == 0, "n": number})
        for number, point in enumerate(points_of(150))
    ]
    async with opened(tmp_path) as store:
        await store.create(PEOPLE, dimension=DIMENSION)
        await store.upsert(PEOPLE, points[:120])
        await until_indexed(store, shards=2)
        await store.upsert(PEOPLE, points[120:])
    # as the version before left it: no flags, and a manifest that names no form
    folder = tmp_path / PEOPLE.name
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest.pop("payload") == VERSION
    for entry in manifest["shards"]:
        shard = EdgeShard.load(folder / entry["folder"], TUNING)
        ids = [point.face_id for point in points]
        held = shard.existing(ids)
        shard._shard.update(qe.UpdateOperation.delete_payload(held, [FLAGS]))
        shard.close()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    vips = FaceFilter(metadata={"vip": True})
    async with opened(tmp_path) as store, asyncio.timeout(60):
        while await store.count(PEOPLE, vips) != 50:
            await asyncio.sleep(0.05)
        assert await store.count(PEOPLE, FaceFilter(metadata={"vip": False})) == 100
        assert await found_by_own_vector(store, points[::10]) == 15


async def test_what_is_deleted_during_a_build_stays_deleted(tmp_path: Path) -> None:
    slow = dataclasses.replace(TUNING, seal_points=2000)
    async with opened(tmp_path, slow) as store:
        await store.create(PEOPLE, dimension=DIMENSION)
        points = points_of(2000)
        await store.upsert(PEOPLE, points)
        async with asyncio.timeout(60):
            while not await store.building():
                await asyncio.sleep(0.005)
        gone = [point.face_id for point in points[:40:2]]
        for face_id in gone:
            assert await store.delete(PEOPLE, [face_id]) == 1
        moved = dataclasses.replace(points[1], subject="moved")
        assert await store.building()
        await store.upsert(PEOPLE, [moved])
        await until_indexed(store, shards=2)
        assert await store.count(PEOPLE) == 2000 - len(gone)
        (match,) = await store.search(PEOPLE, moved.vector, limit=1, min_similarity=0.999)
        assert match.subject == "moved"
        assert not await store.retrieve(PEOPLE, gone)


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    store = await EdgeVectorStore.open(tmp_path, TUNING, min_free_bytes=0)
    points = points_of(250)
    await store.create(PEOPLE, dimension=DIMENSION)
    await store.upsert(PEOPLE, points)
    await store.close()
    (tmp_path / PEOPLE.name / "000099.spool").mkdir()
    again = await EdgeVectorStore.open(tmp_path, TUNING, min_free_bytes=0)
    try:
        assert await again.count(PEOPLE) == 250
        assert await found_by_own_vector(again, points) == 250
        assert "000099.spool" not in shard_folders(tmp_path)
    finally:
        await again.close()


async def test_a_killed_engine_loses_nothing_and_comes_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.create(PEOPLE, dimension=DIMENSION)
        points = points_of(150)
        for point in points:
            await store.upsert(PEOPLE, [point])
        pid = store.engine_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        waiting = asyncio.create_task(store.count(PEOPLE))
        with pytest.raises(StorageUnavailableError):
            await waiting
        assert await found_by_own_vector(store, points) == 150
        assert store.engine_pid != pid


def test_the_log_alone_brings_back_what_came_after_a_flush(tmp_path: Path) -> None:
    """A power cut: the segments as they were at the last flush, the log as `sync` left it."""
    shard = EdgeShard.create(tmp_path / "a", dimension=DIMENSION, tuning=TUNING, indexed=False)
    early, late = points_of(50), points_of(70, seed=2)
    shard.upsert(early)
    shard.flush()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for point in late:
        shard.upsert([point])
    shard.delete([point.face_id for point in early[:10]])
    shard.sync()
    shutil.rmtree(tmp_path / "b" / "wal")
    shutil.copytree(tmp_path / "a" / "wal", tmp_path / "b" / "wal")
    after = EdgeShard.load(tmp_path / "b", TUNING)
    assert after.count(FaceFilter()) == 110
    assert len(after.existing([point.face_id for point in late])) == 70
    assert after.existing([point.face_id for point in early[:10]]) == []
    after.close()
    shard.close()


_HOLD = """
import asyncio, sys
from pathlib import Path
from tests.integration.test_edge_engine import TUNING
from gateway.vectors.edge.store import EdgeVectorStore
async def main():
    store = await EdgeVectorStore.open(Path(sys.argv[1]), TUNING, min_free_bytes=0)
    await store.collections()
    sys.stdout.write(f"{store.engine_pid}\\n"); sys.stdout.flush()
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_the_engine_ends_when_its_gateway_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout is not None
    try:
        pid = int(await asyncio.to_thread(holder.stdout.readline))
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    async with asyncio.timeout(60):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.05)
    # and leaves the folder free for the next
    store = await EdgeVectorStore.open(tmp_path, TUNING, min_free_bytes=0)
    await store.close()


async def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    store = await EdgeVectorStore.open(tmp_path, TUNING, min_free_bytes=0)
    await store.create(PEOPLE, dimension=DIMENSION)
    (point, later) = points_of(2)
    await store.upsert(PEOPLE, [point])
    await store.close()
    full = await EdgeVectorStore.open(tmp_path, TUNING, min_free_bytes=1 << 60)
    try:
        with pytest.raises(InsufficientStorageError):
            await full.upsert(PEOPLE, [later])
        # reading and forgetting need no room
        assert await full.count(PEOPLE) == 1
        assert await full.delete(PEOPLE, [point.face_id]) == 1
    finally:
        await full.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_refuses_writes_and_recovers(small_disk: Path) -> None:
    async with opened(small_disk / "v", free=64 << 20) as store:
        await store.create(PEOPLE, dimension=DIMENSION)
        points = points_of(60)
        await store.upsert(PEOPLE, points[:30])
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file:
            while os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize > 32 << 20:
                file.write(b"\0" * (1 << 20))
        with pytest.raises(InsufficientStorageError):
            await store.upsert(PEOPLE, points[30:])
        assert await found_by_own_vector(store, points[:30]) == 30
        ballast.unlink()
        await store.upsert(PEOPLE, points[30:])
        assert await found_by_own_vector(store, points) == 60
