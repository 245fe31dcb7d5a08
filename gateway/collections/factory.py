"""Opens vectors, records and collections as the settings say."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from gateway.circuit_breaker import StateObserver
from gateway.collections.base import CropEmbedder, ImageForgetter, NothingCached, Stores
from gateway.collections.blind_vectors import BlindVectorStore
from gateway.collections.service import Collections, Limits
from gateway.concurrency import BackgroundTasks
from gateway.records.encryption import load_cipher
from gateway.records.factory import open_records
from gateway.registry.calibration import Calibrations
from gateway.security.quotas import QuotaLimits
from gateway.settings import Settings
from gateway.telemetry.metrics import PartMetrics
from gateway.thresholds import Thresholds
from gateway.tls_files import files_for_qdrant
from gateway.vectors.base import VectorStore, VectorTuning
from gateway.vectors.edge.store import EdgeVectorStore
from gateway.vectors.metered import MeteredVectorStore
from gateway.waiting import open_when_there

if TYPE_CHECKING:
    from gateway.vectors.qdrant import QdrantVectorStore

T = TypeVar("T")
_MEGABYTE = 1 << 20


def tuning_of(settings: Settings) -> VectorTuning:
    """Return the settings of the vector engine."""
    keys = settings.vector_indexed_metadata.split(",")
    return VectorTuning(
        hnsw_m=settings.vector_hnsw_m,
        hnsw_ef_construct=settings.vector_hnsw_ef_construct,
        hnsw_ef_search=settings.vector_hnsw_ef_search,
        quantization=settings.vector_quantization,
        oversampling=settings.vector_oversampling,
        indexed_metadata=tuple(key.strip() for key in keys if key.strip()),
        seal_points=settings.vector_seal_points,
        purge_seconds=settings.vector_purge_seconds,
        threads=settings.vector_threads,
        shard_number=settings.qdrant_shard_number,
        replication_factor=settings.qdrant_replication_factor,
    )


async def open_edge(settings: Settings) -> EdgeVectorStore:
    """Open Qdrant Edge in `home`; raises StorageUnavailableError if another process uses it."""
    return await EdgeVectorStore.open(
        settings.home / "vectors",
        tuning_of(settings),
        min_free_bytes=settings.min_free_disk_megabytes * _MEGABYTE,
    )


async def open_server(
    settings: Settings, url: str, observer: StateObserver = lambda _: None
) -> "QdrantVectorStore":
    """Connect to a Qdrant server; raises StorageUnavailableError if none answers.

    observer: of the server's circuit.
    """
    # its client takes 32 MB and half a second, which only users of a server need
    from gateway.vectors.qdrant import QdrantVectorStore

    key = settings.qdrant_api_key
    return await QdrantVectorStore.open(
        url,
        tuning_of(settings),
        api_key=None if key is None else key.get_secret_value(),
        timeout_seconds=settings.qdrant_timeout_seconds,
        observer=observer,
        files=files_for_qdrant(settings),
    )


async def open_vectors(settings: Settings, metrics: PartMetrics | None = None) -> VectorStore:
    """Open the vector store that the settings name."""
    if settings.qdrant_url is None:
        return await open_edge(settings)
    if metrics is None:
        return await open_server(settings, settings.qdrant_url)
    return await open_server(settings, settings.qdrant_url, metrics.circuit("qdrant"))


@asynccontextmanager
async def open_stores(
    settings: Settings,
    metrics: PartMetrics | None = None,
    observer: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Stores]:
    """Open both stores; they are closed in reverse order at the end of the block.

    Servers that do not answer yet are waited for; `observer` gets what is waited for.
    """

    async def wait_for(name: str, attempt: Callable[[], Awaitable[T]], *, is_server: bool) -> T:
        # what goes wrong on this machine does not mend itself
        seconds = settings.stores_start_timeout_seconds if is_server else 0.0
        return await open_when_there(name, attempt, seconds=seconds, observer=observer)

    records = await wait_for(
        "PostgreSQL",
        lambda: open_records(settings, metrics),
        is_server=settings.database_url is not None,
    )
    try:
        vectors = await wait_for(
            "Qdrant",
            lambda: open_vectors(settings, metrics),
            is_server=settings.qdrant_url is not None,
        )
        try:
            yield Stores(blinded(settings, vectors), records)
        finally:
            await vectors.close()
    finally:
        await records.close()


def blinded(settings: Settings, vectors: VectorStore) -> VectorStore:
    """Keep metadata from the vectors where it is sealed."""
    if settings.seal_metadata == "off":
        return vectors
    return BlindVectorStore(vectors, load_cipher(settings).index_key())


def metered(stores: Stores, metrics: PartMetrics) -> Stores:
    """Measure the calls of both stores."""

    def observer(part: str) -> Callable[[str, float, bool], None]:
        def note(operation: str, seconds: float, worked: bool) -> None:
            outcome = "ok" if worked else "error"
            metrics.calls.labels(part, operation, outcome).observe(seconds)

        return note

    stores.records.observe(observer("records"))
    return Stores(
        MeteredVectorStore(stores.vectors, observer("vectors"), time.monotonic), stores.records
    )


@asynccontextmanager
async def open_collections(
    settings: Settings,
    embedder: CropEmbedder,
    cache: ImageForgetter,
    metrics: PartMetrics,
    background: BackgroundTasks,
    observer: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Collections]:
    """Open the collections and run their background tasks until the end of the block.

    observer: as in `open_stores`.
    """
    async with open_stores(settings, metrics, observer) as opened:
        collections = make_collections(
            settings, metered(opened, metrics), embedder, background, cache
        )
        async with collections.quotas.counting(background), collections.running():
            yield collections


def make_collections(
    settings: Settings,
    stores: Stores,
    embedder: CropEmbedder,
    background: BackgroundTasks,
    cache: ImageForgetter | None = None,
) -> Collections:
    """Put collections together; they do nothing by themselves until `running`."""
    return Collections(
        stores,
        embedder,
        load_cipher(settings),
        cache or NothingCached(),
        background,
        Thresholds(Calibrations(settings.model_repository), default=settings.match_threshold),
        scratch=settings.home / "scratch",
        limits=Limits(
            max_metadata_entries=settings.max_metadata_entries,
            max_enrol_images=settings.max_enrol_images,
            max_cluster_faces=settings.max_cluster_faces,
            retention_interval_seconds=settings.retention_interval_seconds,
            request_timeout_seconds=settings.request_timeout_seconds,
            quotas=QuotaLimits(
                collections=settings.tenant_max_collections,
                faces=settings.tenant_max_faces,
                images_per_day=settings.tenant_images_per_day,
            ),
        ),
    )
