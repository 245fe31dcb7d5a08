"""Brings the metadata of faces and subjects into the state that `AURUM_SEAL_METADATA` asks for.

A face is written to the vectors first and then to the records, which say what is left to do: an
interrupted run goes on where it stopped.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from gateway.collections.base import Stores, index_of
from gateway.collections.enrol import remove_vectors
from gateway.collections.erase import spaces_of
from gateway.records.types import CollectionRecord, FaceRecord
from gateway.vectors.base import UnknownVectorCollectionError

_FACES_AT_ONCE = 200
log = logging.getLogger(__name__)


class Sealing:
    """Seals metadata from before the setting was switched on, or opens it after it was off."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def run(self) -> int:
        """Go through all faces and subjects that differ; returns how many there were."""
        records = self._stores.records
        faces = 0
        while batch := await records.faces.otherwise_sealed(limit=_FACES_AT_ONCE):
            groups: dict[str, list[FaceRecord]] = {}
            for face in batch:
                groups.setdefault(face.collection_id, []).append(face)
            for collection_id, some in groups.items():
                collection = await records.collections.get(collection_id)
                if collection is not None:
                    await self._rewrite(collection, some)
                await records.faces.seal_again([face.id for face in some])
            faces += len(batch)
        subjects = await records.subjects.seal_again()
        if faces or subjects:
            log.info(
                "metadata was sealed or opened",
                extra={"faces": faces, "subjects": subjects, "sealed": records.faces.seals},
            )
        return faces + subjects

    async def _rewrite(self, collection: CollectionRecord, faces: Sequence[FaceRecord]) -> None:
        """Write the points of faces again, with the metadata of their records."""
        metadata = {face.id: dict(face.metadata) for face in faces}
        for space in spaces_of(collection, faces):
            index = index_of(collection, space)
            try:
                points = await self._stores.vectors.retrieve(index, list(metadata))
                if not points:
                    continue
                again = [replace(point, metadata=metadata[point.face_id]) for point in points]
                await self._stores.vectors.upsert(index, again)
                await self._stores.vectors.flush(index)
            except UnknownVectorCollectionError:
                continue
            # a face that was deleted meanwhile must not come back
            left = await self._stores.records.faces.get(collection.id, list(metadata), over=True)
            gone = set(metadata) - {face.id for face in left}
            if gone:
                await remove_vectors(self._stores, index, sorted(gone))
