"""Collections on real homes, with an embedder whose answers follow from the crop and the space."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from gateway.collections.base import Crops, FaceCandidate, Stores
from gateway.collections.service import Collections, Limits
from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import ConflictError
from gateway.records.encryption import FileKeyCipher
from gateway.records.engines import sqlite_url
from gateway.records.store import RecordStore
from gateway.registry.calibration import Calibrations
from gateway.thresholds import Thresholds
from gateway.types import Caller
from gateway.vectors.base import Vector, VectorStore, VectorTuning
from gateway.vectors.edge.store import EdgeVectorStore
from tests.support.records import add_migrated_sqlite

OLD, NEW = "00000000000000a1", "00000000000000b2"
DIMENSIONS = {OLD: 32, NEW: 48}
CALLER = Caller("default", "tester")
TUNING = VectorTuning(
    hnsw_m=16,
    hnsw_ef_construct=64,
    hnsw_ef_search=64,
    quantization="int8",
    oversampling=2.0,
    indexed_metadata=(),
    seal_points=1000,
    purge_seconds=900,
    threads=1,
    shard_number=1,
    replication_factor=1,
)


class FakeEmbedder:
    """`CropEmbedder` in closed form: a crop is the person `crop[0,0,0]`, a space shuffles people.

    `spaces`: those in service, the newest last. `broken`: how many calls fail from now on.
    """

    def __init__(self) -> None:
        self.spaces = [OLD]
        self.calls = 0
        self.pause_seconds = 0.0

    async def embed(self, crops: Crops, *, space: str, deadline: Deadline) -> Vector:
        self.calls += 1
        await asyncio.sleep(self.pause_seconds)
        if space not in self.spaces:
            raise ConflictError(f"no version in service makes space {space}")
        return np.stack([person(int(crop[0, 0, 0]), space) for crop in crops])

    async def current_space(self, *, deadline: Deadline) -> tuple[str, int]:
        return self.spaces[-1], DIMENSIONS[self.spaces[-1]]


class CountingCache:
    """`ImageForgetter` that records the images to forget."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def forget_images(self, digests: Sequence[str], *, tenant: str) -> int:
        self.forgotten += digests
        return len(digests)


def person(number: int, space: str = OLD) -> Vector:
    """The embedding of a person in a space: unit length, about orthogonal to anybody else's."""
    seed = (int(space, 16) << 8) | number
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS[space])
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def crop_of(number: int) -> Crops:
    """An aligned face of a person."""
    crop = np.zeros((112, 112, 3), dtype=np.uint8)
    crop[0, 0, 0] = number
    return crop


def candidate(number: int, subject: str | None = None, *, space: str = OLD) -> FaceCandidate:
    """An image's face, ready to be remembered."""
    return FaceCandidate(
        index=0,
        vector=person(number, space),
        space=space,
        subject=subject or f"p{number}",
        metadata={"n": number},
        crop=crop_of(number),
        box=(0.0, 0.0, 50.0, 50.0),
        quality={"size": 50.0},
        image_sha256=f"{number:064x}",
        detector="00000000000000de",
    )


def in_time() -> Deadline:
    """A deadline that no test reaches."""
    return Deadline.after(30)


@asynccontextmanager
async def edge_stores(home: Path) -> AsyncIterator[Stores]:
    """The default homes under a folder."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "records.sqlite3"
    if not file.exists():
        add_migrated_sqlite(file)
    records = await RecordStore.open(sqlite_url(file))
    vectors = await EdgeVectorStore.open(home / "vectors", TUNING, min_free_bytes=0)
    try:
        yield Stores(vectors, records)
    finally:
        await vectors.close()
        await records.close()


def collections_on(
    vectors: VectorStore, records: RecordStore, home: Path, embedder: FakeEmbedder
) -> tuple[Collections, CountingCache]:
    """The service on these homes."""
    cache = CountingCache()
    service = Collections(
        Stores(vectors, records),
        embedder,
        FileKeyCipher.load(home / "crops.key"),
        cache,
        BackgroundTasks(),
        Thresholds(Calibrations(home), default=0.5),
        scratch=home / "scratch",
        limits=Limits(
            max_metadata_entries=16,
            max_enrol_images=32,
            max_cluster_faces=100_000,
            retention_interval_seconds=3600,
            request_timeout_seconds=0,
        ),
    )
    # an enrolment of the tests has ended long before
    service.migrations._settle_seconds = 0.2
    return service, cache
