"""Finding faces again."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
    """A face that is looked for. crop: [112,112,3] uint8 RGB, None for a raw embedding."""

    vector: Vector
    space: str
    crop: Crops | None = None


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How many subjects (or faces) at most, from which cosine on, with which metadata."""

    limit: int
    min_similarity: float
    by_subject: bool = True
    subject: str | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)


class Search:
    """Asks the vectors of one collection."""

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
        """The matches of each probe, best first; a collection without faces has none."""
        if collection.space is None or not probes:
            return tuple(() for _ in probes)
        index = index_of(collection, collection.space)
        # forgetting comes a while after their time is over, finding them ends at once
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
                # its first face is being written
                matches = ()
            except DimensionMismatchError as error:
                raise InvalidRequestError(str(error)) from error
            found.append(matches)
        return tuple(found)

    async def _in_space(
        self, space: str, probes: Sequence[Probe], deadline: Deadline
    ) -> list[Vector]:
        """Probes of a newer model are embedded again by the one that the collection lives in."""
        if all(probe.space == space for probe in probes):
            return [probe.vector for probe in probes]
        crops = [probe.crop for probe in probes if probe.crop is not None]
        if len(crops) < len(probes):
            message = f"the collection lives in space {space}, the embedding in {probes[0].space}"
            raise ConflictError(message)
        return list(await self._embedder.embed(np.stack(crops), space=space, deadline=deadline))
