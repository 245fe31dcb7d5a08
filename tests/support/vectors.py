"""Vector stores, collections and points for the contract tests."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from gateway.vectors.base import FacePoint, Vector, VectorCollection, VectorStore, VectorTuning
from gateway.vectors.edge.store import EdgeVectorStore
from gateway.vectors.qdrant import IN_MEMORY, QdrantVectorStore

DIMENSION = 32
TUNING = VectorTuning(
    hnsw_m=16,
    hnsw_ef_construct=100,
    hnsw_ef_search=64,
    quantization="int8",
    oversampling=2.0,
    indexed_metadata=("team",),
    seal_points=200,
    purge_seconds=900,
    threads=1,
    shard_number=1,
    replication_factor=1,
)


def a_collection() -> VectorCollection:
    return VectorCollection("default", f"t-{uuid.uuid4().hex[:12]}", "00000000000000a1")


def unit_vectors(number: int, seed: int = 1) -> Vector:
    vectors = np.random.default_rng(seed).standard_normal((number, DIMENSION))
    unit: Vector = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def points_of(vectors: Vector, subjects: int | None = None) -> list[FacePoint]:
    return [
        FacePoint(
            face_id=str(uuid.uuid4()),
            vector=vector,
            subject=f"s{index % (subjects or len(vectors))}",
            tenant="default",
            created_at=1000.0 + index,
            quality={"size": 80.0},
            metadata={"team": "red" if index % 2 else "blue", "n": index, "f": index / 4},
            image_sha256=f"{index:064x}",
            detector="00000000000000de",
        )
        for index, vector in enumerate(vectors)
    ]


@pytest.fixture(params=["edge", "server"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorStore]:
    opened: VectorStore
    if request.param == "edge":
        opened = await EdgeVectorStore.open(tmp_path / "vectors", TUNING, min_free_bytes=0)
    else:
        url = os.environ.get("AURUM_TEST_QDRANT_URL", IN_MEMORY)
        opened = await QdrantVectorStore.open(url, TUNING, api_key=None, timeout_seconds=10)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def collection(store: VectorStore) -> AsyncIterator[VectorCollection]:
    made = a_collection()
    await store.create(made, dimension=DIMENSION)
    try:
        yield made
    finally:
        await store.drop(made)


def by_id(points: list[FacePoint]) -> dict[str, FacePoint]:
    return {point.face_id: point for point in points}


def cosine(a: Vector, b: Vector) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
