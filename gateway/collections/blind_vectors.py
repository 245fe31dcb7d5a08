"""A vector store that never sees metadata: only a blind index of it, where it is sealed."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.records.metadata_seal import blind
from gateway.vectors.base import (
    NO_FILTER,
    FaceFilter,
    FacePoint,
    Match,
    Vector,
    VectorCollection,
    VectorHealth,
    VectorInfo,
    VectorPage,
    VectorStore,
)


class BlindVectorStore:
    """`VectorStore` that replaces metadata, of points and of filters, by HMACs.

    What it returns has the HMACs; the metadata itself is in the records.
    """

    def __init__(self, store: VectorStore, index_key: bytes) -> None:
        self._store = store
        self._index_key = index_key

    async def create(self, collection: VectorCollection, *, dimension: int) -> None:
        """See `VectorStore.create`."""
        await self._store.create(collection, dimension=dimension)

    async def collections(self) -> tuple[VectorCollection, ...]:
        """See `VectorStore.collections`."""
        return await self._store.collections()

    async def upsert(self, collection: VectorCollection, points: Sequence[FacePoint]) -> None:
        """See `VectorStore.upsert`."""
        name = _name(collection)
        blinded = [
            replace(point, metadata=blind(self._index_key, name, point.metadata))
            for point in points
        ]
        await self._store.upsert(collection, blinded)

    async def delete(self, collection: VectorCollection, face_ids: Sequence[str]) -> int:
        """See `VectorStore.delete`."""
        return await self._store.delete(collection, face_ids)

    async def delete_subject(self, collection: VectorCollection, subject: str) -> int:
        """See `VectorStore.delete_subject`."""
        return await self._store.delete_subject(collection, subject)

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
        return await self._store.search(
            collection,
            vector,
            limit=limit,
            min_similarity=min_similarity,
            where=self._filter(collection, where),
            by_subject=by_subject,
        )

    async def scroll(
        self,
        collection: VectorCollection,
        *,
        limit: int,
        cursor: str | None = None,
        where: FaceFilter = NO_FILTER,
    ) -> VectorPage:
        """See `VectorStore.scroll`."""
        return await self._store.scroll(
            collection, limit=limit, cursor=cursor, where=self._filter(collection, where)
        )

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """See `VectorStore.retrieve`."""
        return await self._store.retrieve(collection, face_ids)

    async def count(self, collection: VectorCollection, where: FaceFilter = NO_FILTER) -> int:
        """See `VectorStore.count`."""
        return await self._store.count(collection, self._filter(collection, where))

    async def info(self, collection: VectorCollection) -> VectorInfo:
        """See `VectorStore.info`."""
        return await self._store.info(collection)

    async def drop(self, collection: VectorCollection) -> bool:
        """See `VectorStore.drop`."""
        return await self._store.drop(collection)

    async def flush(self, collection: VectorCollection) -> None:
        """See `VectorStore.flush`."""
        await self._store.flush(collection)

    async def health(self) -> VectorHealth:
        """See `VectorStore.health`."""
        return await self._store.health()

    async def close(self) -> None:
        """See `VectorStore.close`."""
        await self._store.close()

    def _filter(self, collection: VectorCollection, where: FaceFilter) -> FaceFilter:
        if not where.metadata:
            return where
        return replace(where, metadata=blind(self._index_key, _name(collection), where.metadata))


def _name(collection: VectorCollection) -> str:
    # not the space: a move to another one copies points as they are found
    return f"{collection.tenant}/{collection.collection}"
