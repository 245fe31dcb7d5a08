"""Vectors in a Qdrant server or cluster, over gRPC (`AURUM_QDRANT_URL`)."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import grpc
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from gateway.circuit_breaker import CircuitBreaker, StateObserver
from gateway.deadline import seconds_allowed
from gateway.errors import (
    InsufficientStorageError,
    StorageUnavailableError,
)
from gateway.renewed_client import RenewedClient
from gateway.tls import NO_FILES, Pem, TlsFiles
from gateway.vectors.base import (
    NO_FILTER,
    DimensionMismatchError,
    FaceFilter,
    FacePoint,
    Match,
    UnknownVectorCollectionError,
    Vector,
    VectorCollection,
    VectorHealth,
    VectorInfo,
    VectorPage,
    VectorTuning,
)
from gateway.vectors.payload import (
    KEYWORD_FIELDS,
    SUBJECT,
    metadata_field,
    read_match,
    read_point,
    write_payload,
)
from gateway.vectors.qdrant_filters import filter_of, optional_filter
from gateway.vectors.qdrant_tls import read_encryption

IN_MEMORY: Final = ":memory:"
"""The in-process engine of the client library, for the contract suite without a server."""
_HTTP_PORT = 6333
_GRPC_PORT = 6334
_INDEXING_THRESHOLD_KB = 10_000
_RETRY_SECONDS = 2
_FAILURES = 5
_TIMEOUT_SECONDS = 5.0
_SILENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
"""gRPC statuses that mean that no server answered."""
_T = TypeVar("_T")


class QdrantVectorStore:
    """The client of a Qdrant server; the server indexes in the background."""

    def __init__(
        self,
        client: AsyncQdrantClient | RenewedClient[AsyncQdrantClient],
        tuning: VectorTuning,
        *,
        breaker: CircuitBreaker | None = None,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._breaker = breaker or CircuitBreaker()
        self._last_failure = ""
        self._clients = client
        self._tuning = tuning
        self._params = models.SearchParams(
            hnsw_ef=tuning.hnsw_ef_search,
            quantization=models.QuantizationSearchParams(
                ignore=tuning.quantization == "off", rescore=True, oversampling=tuning.oversampling
            ),
        )

    @classmethod
    async def open(
        cls,
        url: str,
        tuning: VectorTuning,
        *,
        api_key: str | None,
        timeout_seconds: float,
        observer: StateObserver = lambda _: None,
        files: TlsFiles = NO_FILES,
    ) -> "QdrantVectorStore":
        """Connect; raises StorageUnavailableError if no server answers, and ConfigurationError.

        The URL names the HTTP port (6333 by default); gRPC is the port after it. `files`: see
        `read_encryption`.
        """
        if url == IN_MEMORY:
            return cls(AsyncQdrantClient(location=IN_MEMORY), tuning)
        port = urlsplit(url).port or _HTTP_PORT
        watched, encryption = read_encryption(url, files)

        def connect(pem: Pem) -> AsyncQdrantClient:
            return AsyncQdrantClient(
                **encryption(pem),
                url=url,
                port=port,
                grpc_port=_GRPC_PORT if port == _HTTP_PORT else port + 1,
                prefer_grpc=True,
                api_key=api_key,
                timeout=max(1, round(timeout_seconds)),
                check_compatibility=False,
            )

        clients = RenewedClient(watched, connect, lambda client: client.close())
        breaker = CircuitBreaker(
            failures=_FAILURES, retry_seconds=_RETRY_SECONDS, observer=observer
        )
        store = cls(clients, tuning, breaker=breaker, timeout_seconds=timeout_seconds)
        await store.collections()
        return store

    @property
    def _client(self) -> AsyncQdrantClient:
        clients = self._clients
        return clients.now() if isinstance(clients, RenewedClient) else clients

    async def create(self, collection: VectorCollection, *, dimension: int) -> None:
        """See `VectorStore.create`."""
        if await self._reach(self._client.collection_exists(collection.name)):
            existing = await self._dimension(collection)
            if existing != dimension:
                message = f"{collection.name} holds vectors of {existing}, not of {dimension}"
                raise DimensionMismatchError(message)
            return
        await self._reach(
            self._client.create_collection(
                collection.name,
                vectors_config=models.VectorParams(size=dimension, distance=models.Distance.COSINE),
                shard_number=self._tuning.shard_number,
                replication_factor=self._tuning.replication_factor,
                # a majority of the replicas holds a write before it is acknowledged
                write_consistency_factor=self._tuning.replication_factor // 2 + 1,
                hnsw_config=models.HnswConfigDiff(
                    m=self._tuning.hnsw_m, ef_construct=self._tuning.hnsw_ef_construct
                ),
                optimizers_config=models.OptimizersConfigDiff(
                    indexing_threshold=_INDEXING_THRESHOLD_KB
                ),
                quantization_config=self._quantization(),
            )
        )
        fields = [*KEYWORD_FIELDS, *map(metadata_field, self._tuning.indexed_metadata)]
        for name in fields:
            await self._reach(
                self._client.create_payload_index(
                    collection.name, name, field_schema=models.PayloadSchemaType.KEYWORD
                )
            )

    async def collections(self) -> tuple[VectorCollection, ...]:
        """See `VectorStore.collections`."""
        answer = await self._reach(self._client.get_collections())
        parsed = (VectorCollection.parse(entry.name) for entry in answer.collections)
        return tuple(sorted(collection for collection in parsed if collection is not None))

    async def upsert(self, collection: VectorCollection, points: Sequence[FacePoint]) -> None:
        """See `VectorStore.upsert`."""
        if not points:
            return
        dimension = await self._dimension(collection)
        for point in points:
            _check(point.vector, dimension)
        batch = [
            models.PointStruct(
                id=point.face_id, vector=point.vector.tolist(), payload=write_payload(point)
            )
            for point in points
        ]
        await self._reach(self._client.upsert(collection.name, points=batch, wait=True))

    async def delete(self, collection: VectorCollection, face_ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        await self._dimension(collection)
        if not face_ids:
            return 0
        held = await self._reach(
            self._client.retrieve(
                collection.name, ids=list(face_ids), with_payload=False, with_vectors=False
            )
        )
        selector = models.PointIdsList(points=list(face_ids))
        await self._reach(self._client.delete(collection.name, points_selector=selector, wait=True))
        return len(held)

    async def delete_subject(self, collection: VectorCollection, subject: str) -> int:
        """See `VectorStore.delete_subject`."""
        where = FaceFilter(subject)
        held = await self.count(collection, where)
        selector = models.FilterSelector(filter=filter_of(where))
        await self._reach(self._client.delete(collection.name, points_selector=selector, wait=True))
        return held

    async def search(
        self,
        collection: VectorCollection,
        vector: Vector,
        *,
        limit: int,
        min_similarity: float,
        where: FaceFilter = NO_FILTER,
        by_subject: bool = True,
    ) -> tuple[Match, ...]:
        """See `VectorStore.search`."""
        _check(vector, await self._dimension(collection))
        if by_subject:
            grouped = await self._reach(
                self._client.query_points_groups(
                    collection.name,
                    group_by=SUBJECT,
                    query=vector.tolist(),
                    query_filter=optional_filter(where),
                    search_params=self._params,
                    limit=limit,
                    group_size=1,
                    with_payload=True,
                    score_threshold=min_similarity,
                )
            )
            hits = [hit for group in grouped.groups for hit in group.hits]
        else:
            answer = await self._reach(
                self._client.query_points(
                    collection.name,
                    query=vector.tolist(),
                    query_filter=optional_filter(where),
                    search_params=self._params,
                    limit=limit,
                    with_payload=True,
                    score_threshold=min_similarity,
                )
            )
            hits = answer.points
        matches = [read_match(str(hit.id), hit.score, hit.payload or {}) for hit in hits]
        return tuple(sorted(matches, key=lambda match: (-match.similarity, match.face_id)))

    async def scroll(
        self,
        collection: VectorCollection,
        *,
        limit: int,
        cursor: str | None = None,
        where: FaceFilter = NO_FILTER,
    ) -> VectorPage:
        """See `VectorStore.scroll`."""
        await self._dimension(collection)
        records, following = await self._reach(
            self._client.scroll(
                collection.name,
                scroll_filter=optional_filter(where),
                limit=limit,
                offset=cursor,
                with_payload=True,
                with_vectors=True,
            )
        )
        points = tuple(read_point(str(r.id), r.vector, r.payload or {}) for r in records)
        return VectorPage(points, None if following is None else str(following))

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """See `VectorStore.retrieve`."""
        await self._dimension(collection)
        records = await self._reach(
            self._client.retrieve(
                collection.name, ids=list(face_ids), with_payload=True, with_vectors=True
            )
        )
        return tuple(read_point(str(r.id), r.vector, r.payload or {}) for r in records)

    async def count(self, collection: VectorCollection, where: FaceFilter = NO_FILTER) -> int:
        """See `VectorStore.count`."""
        await self._dimension(collection)
        answer = await self._reach(
            self._client.count(collection.name, count_filter=optional_filter(where), exact=True)
        )
        return answer.count

    async def info(self, collection: VectorCollection) -> VectorInfo:
        """See `VectorStore.info`."""
        dimension = await self._dimension(collection)
        answer = await self._reach(self._client.get_collection(collection.name))
        return VectorInfo(
            dimension=dimension,
            points=await self.count(collection),
            indexed=answer.indexed_vectors_count or 0,
            shards=answer.config.params.shard_number or 1,
        )

    async def drop(self, collection: VectorCollection) -> bool:
        """See `VectorStore.drop`."""
        if not await self._reach(self._client.collection_exists(collection.name)):
            return False
        await self._reach(self._client.delete_collection(collection.name))
        return True

    async def flush(self, collection: VectorCollection) -> None:
        """Check that the collection exists; a majority has logged every acknowledged write."""
        await self._dimension(collection)

    async def health(self) -> VectorHealth:
        """See `VectorStore.health`."""
        found = len(await self.collections())
        return VectorHealth(f"Qdrant server, {found} collections", found)

    async def close(self) -> None:
        """Close the channel."""
        await self._clients.close()

    async def _reach(self, call: Coroutine[Any, Any, _T]) -> _T:
        """Await a call to the server, unless its circuit is open; translate its errors.

        Raises:
            UnknownVectorCollectionError: there is no such collection.
            InsufficientStorageError: the disk of the server is full.
            StorageUnavailableError: the server does not answer, failed, or its circuit is open.

        """
        if not self._breaker.allows_call():
            call.close()
            raise _unavailable(f"Qdrant does not answer: {self._last_failure}")
        allowed = seconds_allowed(self._timeout_seconds)
        try:
            async with asyncio.timeout(allowed):
                answer = await call
        except TimeoutError as error:
            # a request that had little time left does not tell whether the server is away
            if allowed is None or allowed >= self._timeout_seconds:
                self._note("no answer in time", answered=False)
            raise _unavailable("Qdrant does not answer in time") from error
        except grpc.aio.AioRpcError as error:
            detail = error.details() or ""
            self._note(detail, answered=error.code() not in _SILENT)
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise UnknownVectorCollectionError(detail) from error
            raise _unavailable(detail) from error
        except (ResponseHandlingException, UnexpectedResponse, OSError) as error:
            self._note(str(error), answered=isinstance(error, UnexpectedResponse))
            raise _unavailable(str(error)) from error
        self._note("", answered=True)
        return answer

    def _note(self, detail: str, *, answered: bool) -> None:
        if answered:
            self._breaker.succeeded()
        else:
            self._last_failure = detail
            self._breaker.failed()

    def _quantization(self) -> models.ScalarQuantization | None:
        if self._tuning.quantization == "off":
            return None
        return models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(
                type=models.ScalarType.INT8, quantile=0.99, always_ram=True
            )
        )

    async def _dimension(self, collection: VectorCollection) -> int:
        # read every time: another gateway may have dropped or recreated the collection
        if not await self._reach(self._client.collection_exists(collection.name)):
            raise UnknownVectorCollectionError(collection.name)
        answer = await self._reach(self._client.get_collection(collection.name))
        params = answer.config.params.vectors
        if not isinstance(params, models.VectorParams):
            message = f"{collection.name} was not created by this program"
            raise StorageUnavailableError(message)
        return params.size


def _check(vector: Vector, dimension: int) -> None:
    if vector.shape != (dimension,):
        message = f"a vector of {vector.shape} for a collection of {dimension}"
        raise DimensionMismatchError(message)


def _unavailable(detail: str) -> InsufficientStorageError | StorageUnavailableError:
    if "No space left" in detail or "disk" in detail.lower():
        return InsufficientStorageError(detail)
    return StorageUnavailableError(detail, retry_after_seconds=_RETRY_SECONDS)
