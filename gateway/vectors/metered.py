"""A vector store that measures its calls."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

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
    VectorStore,
)

Observer = Callable[[str, float, bool], None]
"""Called with an operation, its seconds and whether it succeeded."""
T = TypeVar("T")


class MeteredVectorStore:
    """`VectorStore` that reports the duration of each call."""

    def __init__(self, store: VectorStore, observer: Observer, clock: Callable[[], float]) -> None:
        self._store = store
        self._observer = observer
        self._clock = clock

    async def create(self, collection: VectorCollection, *, dimension: int) -> None:
        """See `VectorStore.create`."""
        await self._timed("create", self._store.create(collection, dimension=dimension))

    async def collections(self) -> tuple[VectorCollection, ...]:
        """See `VectorStore.collections`."""
        return await self._timed("collections", self._store.collections())

    async def upsert(self, collection: VectorCollection, points: Sequence[FacePoint]) -> None:
        """See `VectorStore.upsert`."""
        await self._timed("upsert", self._store.upsert(collection, points))

    async def delete(self, collection: VectorCollection, face_ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        return await self._timed("delete", self._store.delete(collection, face_ids))

    async def delete_subject(self, collection: VectorCollection, subject: str) -> int:
        """See `VectorStore.delete_subject`."""
        return await self._timed("delete", self._store.delete_subject(collection, subject))

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
        call = self._store.search(
            collection,
            vector,
            limit=limit,
            min_similarity=min_similarity,
            where=where,
            by_subject=by_subject,
        )
        return await self._timed("search", call)

    async def scroll(
        self,
        collection: VectorCollection,
        *,
        limit: int,
        cursor: str | None = None,
        where: FaceFilter = NO_FILTER,
    ) -> VectorPage:
        """See `VectorStore.scroll`."""
        call = self._store.scroll(collection, limit=limit, cursor=cursor, where=where)
        return await self._timed("scroll", call)

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """See `VectorStore.retrieve`."""
        return await self._timed("retrieve", self._store.retrieve(collection, face_ids))

    async def count(self, collection: VectorCollection, where: FaceFilter = NO_FILTER) -> int:
        """See `VectorStore.count`."""
        return await self._timed("count", self._store.count(collection, where))

    async def info(self, collection: VectorCollection) -> VectorInfo:
        """See `VectorStore.info`."""
        return await self._timed("info", self._store.info(collection))

    async def drop(self, collection: VectorCollection) -> bool:
        """See `VectorStore.drop`."""
        return await self._timed("drop", self._store.drop(collection))

    async def flush(self, collection: VectorCollection) -> None:
        """See `VectorStore.flush`."""
        await self._timed("flush", self._store.flush(collection))

    async def health(self) -> VectorHealth:
        """See `VectorStore.health`; not timed."""
        return await self._store.health()

    async def close(self) -> None:
        """See `VectorStore.close`."""
        await self._store.close()

    async def _timed(self, operation: str, call: Awaitable[T]) -> T:
        started, worked = self._clock(), False
        try:
            found = await call
            worked = True
        except (UnknownVectorCollectionError, DimensionMismatchError):
            # an unknown collection is an answer of a healthy store
            worked = True
            raise
        finally:
            self._observer(operation, self._clock() - started, worked)
        return found
