"""Searches collections for faces."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gateway.collections.base import CropEmbedder, Crops, Stores, index_of
from gateway.deadline import Deadline
from gateway.errors import ConflictError, InvalidRequestError
from gateway.records.types import CollectionRecord, MetadataValue
from gateway.vectors.base import (
    DimensionMismatchError,
    FaceFilter,
    Match,
    UnknownVectorCollectionError,
    Vector,
)


@dataclass(frozen=True, slots=True)
class Probe:
    """A face to search for. crop: [112,112,3] uint8 RGB, None for a raw embedding."""

    vector: Vector
    space: str
    crop: Crops | None = None


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Most subjects (or faces), the lowest cosine similarity, and filters."""

    limit: int
    min_similarity: float
    by_subject: bool = True
    subject: str | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)


class Search:
    """Searches the vectors of one collection."""

    def __init__(self, stores: Stores, embedder: CropEmbedder) -> None:
        self._stores = stores
        self._embedder = embedder

    async def find(
        self,
        collection: CollectionRecord,
        probes: Sequence[Probe],
        options: SearchOptions,
        *,
        deadline: Deadline,
    ) -> tuple[tuple[Match, ...], ...]:
        """Return the matches of each probe, most similar first; none for an empty collection."""
        if collection.space is None or not probes:
            return tuple(() for _ in probes)
        index = index_of(collection, collection.space)
        # expired faces are deleted some time later, but must not be found any more
        over = await self._stores.records.faces.over_ids(collection.id, at=time.time())
        where = FaceFilter(options.subject, options.metadata, over)
        found: list[tuple[Match, ...]] = []
        for vector in await self._in_space(collection.space, probes, deadline):
            try:
                matches = await self._stores.vectors.search(
                    index,
                    vector,
                    limit=options.limit,
                    min_similarity=options.min_similarity,
                    where=where,
                    by_subject=options.by_subject,
                )
            except UnknownVectorCollectionError:
                # the first face is being written
                matches = ()
            except DimensionMismatchError as error:
                raise InvalidRequestError(str(error)) from error
            found.append(matches)
        if self._stores.records.faces.seals:
            return await self._with_metadata(collection, found)
        return tuple(found)

    async def _with_metadata(
        self, collection: CollectionRecord, found: Sequence[tuple[Match, ...]]
    ) -> tuple[tuple[Match, ...], ...]:
        """Take the metadata from the records: the vectors have only a blind index of it.

        A face that was deleted a moment ago is left out.
        """
        ids = sorted({match.face_id for matches in found for match in matches})
        faces = await self._stores.records.faces.get(collection.id, ids)
        metadata = {face.id: face.metadata for face in faces}
        return tuple(
            tuple(
                replace(match, metadata=metadata[match.face_id])
                for match in matches
                if match.face_id in metadata
            )
            for matches in found
        )

    async def _in_space(
        self, space: str, probes: Sequence[Probe], deadline: Deadline
    ) -> list[Vector]:
        """Embed probes of another space again, in the space of the collection."""
        if all(probe.space == space for probe in probes):
            return [probe.vector for probe in probes]
        crops = [probe.crop for probe in probes if probe.crop is not None]
        if len(crops) < len(probes):
            message = f"the collection uses space {space}, the embedding {probes[0].space}"
            raise ConflictError(message)
        return list(await self._embedder.embed(np.stack(crops), space=space, deadline=deadline))
