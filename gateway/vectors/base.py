"""What a home of embeddings can do, whoever keeps them.

`edge.py` (Qdrant Edge, a process of our own) and `server.py` (a Qdrant server or cluster) both
do this; `tests/contract/test_vectors.py` runs against either.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
MetadataValue = str | int | float | bool

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What tenants and collections may be called."""
_SEPARATOR = "~"
_PREFIX = "aurum"
_SPACE = re.compile(r"[0-9a-f]{16}")


class UnknownVectorCollectionError(Exception):
    """Asked of a vector collection that does not exist."""


class DimensionMismatchError(Exception):
    """A vector whose length is not that of its collection."""


@dataclass(frozen=True, slots=True, order=True)
class VectorCollection:
    """One user collection in one embedding space; `name` is what the engine calls it."""

    tenant: str
    collection: str
    space: str
    """16 hexadecimal digits, see `contract.format_id`."""

    @property
    def name(self) -> str:
        """`aurum~tenant~collection~space`; `~` occurs in none of the parts."""
        return _SEPARATOR.join((_PREFIX, self.tenant, self.collection, self.space))

    @classmethod
    def parse(cls, name: str) -> "VectorCollection | None":
        """Read what `name` wrote; None for a collection that is not ours."""
        parts = name.split(_SEPARATOR)
        if len(parts) != 4 or parts[0] != _PREFIX or not _SPACE.fullmatch(parts[3]):
            return None
        if not (NAME.fullmatch(parts[1]) and NAME.fullmatch(parts[2])):
            return None
        return cls(parts[1], parts[2], parts[3])


@dataclass(frozen=True, slots=True)
class FacePoint:
    """One remembered face.

    vector: [D] float32; the store normalises it to unit length.
    quality: the columns of `contract.QUALITY_COLUMNS` that are known.
    created_at: seconds since 1970, UTC.
    image_sha256: digest of the encoded image, None for an embedding sent as such.
    """

    face_id: str
    vector: Vector
    subject: str
    tenant: str
    created_at: float
    quality: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    image_sha256: str | None = None
    detector: str | None = None


@dataclass(frozen=True, slots=True)
class FaceFilter:
    """All that must hold: the subject, and every metadata entry equal, of the same JSON type.

    Numbers are one type: 42 is 42.0. without: face ids that are left out.
    """

    subject: str | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """One answer of a search; similarity is the cosine, -1 to 1."""

    face_id: str
    subject: str
    similarity: float
    metadata: Mapping[str, MetadataValue]


@dataclass(frozen=True, slots=True)
class VectorPage:
    """Some points in the order of their ids; `next_cursor` is None on the last page."""

    points: tuple[FacePoint, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class VectorInfo:
    """The state of one vector collection; `indexed` counts the vectors inside an HNSW graph."""

    dimension: int
    points: int
    indexed: int
    shards: int


@dataclass(frozen=True, slots=True)
class VectorHealth:
    """How a home does.

    collections: None while nobody had to look. engine_pid, engine_starts: of a process of our own.
    """

    detail: str
    collections: int | None
    engine_pid: int | None = None
    engine_starts: int = 0


@dataclass(frozen=True, slots=True)
class VectorTuning:
    """How the engine stores and searches; each field is a setting `AURUM_VECTOR_…`."""

    hnsw_m: int
    hnsw_ef_construct: int
    hnsw_ef_search: int
    quantization: Literal["int8", "off"]
    oversampling: float
    indexed_metadata: tuple[str, ...]
    seal_points: int
    purge_seconds: float
    threads: int
    shard_number: int
    replication_factor: int


NO_FILTER: Final = FaceFilter()


class VectorStore(Protocol):
    """A durable home of embeddings.

    A write is acknowledged once a killed process cannot lose it; `flush` returns once a power
    cut cannot. Methods raise UnknownVectorCollectionError, DimensionMismatchError,
    InsufficientStorageError or StorageUnavailableError.
    """

    async def create(self, collection: VectorCollection, *, dimension: int) -> None:
        """Make the collection; one that exists with the same dimension is left as it is."""
        ...

    async def collections(self) -> tuple[VectorCollection, ...]:
        """All vector collections of ours, sorted."""
        ...

    async def upsert(self, collection: VectorCollection, points: Sequence[FacePoint]) -> None:
        """Write points; one whose face id exists is replaced."""
        ...

    async def delete(self, collection: VectorCollection, face_ids: Sequence[str]) -> int:
        """Remove points by id; returns how many there were."""
        ...

    async def delete_subject(self, collection: VectorCollection, subject: str) -> int:
        """Remove all points of a subject; returns how many there were."""
        ...

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
        """The nearest faces, best first; `by_subject`: only the best face of each subject."""
        ...

    async def scroll(
        self,
        collection: VectorCollection,
        *,
        limit: int,
        cursor: str | None = None,
        where: FaceFilter = NO_FILTER,
    ) -> VectorPage:
        """Points with their vectors, in the order of their ids, from `cursor` on."""
        ...

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """The points of these ids that exist, in any order."""
        ...

    async def count(self, collection: VectorCollection, where: FaceFilter = NO_FILTER) -> int:
        """How many points there are, exactly."""
        ...

    async def info(self, collection: VectorCollection) -> VectorInfo:
        """Dimension, points, how many of them are indexed, shards."""
        ...

    async def drop(self, collection: VectorCollection) -> bool:
        """Remove the collection and its files; False if there was none."""
        ...

    async def flush(self, collection: VectorCollection) -> None:
        """Bring all acknowledged writes to the disk; calls at the same time share one."""
        ...

    async def health(self) -> VectorHealth:
        """Ask the engine how it does; raises StorageUnavailableError if it does not answer."""
        ...

    async def close(self) -> None:
        """Let go of everything, flushed."""
        ...
