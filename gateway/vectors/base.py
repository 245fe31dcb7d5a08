"""The protocol of vector stores, and its types.

`edge/store.py` (Qdrant Edge in its own process) and `qdrant.py` (a Qdrant server or cluster)
implement it; `tests/contract/test_vectors.py` runs against both.
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
"""Names that tenants and collections may have."""
_SEPARATOR = "~"
_PREFIX = "aurum"
_SPACE = re.compile(r"[0-9a-f]{16}")


class UnknownVectorCollectionError(Exception):
    """The vector collection does not exist."""


class DimensionMismatchError(Exception):
    """The length of a vector differs from that of its collection."""


@dataclass(frozen=True, slots=True, order=True)
class VectorCollection:
    """A collection in one embedding space; `name` is its name in the engine."""

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
        """Parse a name in the engine; None for a collection of another program."""
        parts = name.split(_SEPARATOR)
        if len(parts) != 4 or parts[0] != _PREFIX or not _SPACE.fullmatch(parts[3]):
            return None
        if not (NAME.fullmatch(parts[1]) and NAME.fullmatch(parts[2])):
            return None
        return cls(parts[1], parts[2], parts[3])


@dataclass(frozen=True, slots=True)
class FacePoint:
    """An enrolled face.

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
    """Conditions that must all hold: the subject, and each metadata entry by value and JSON type.

    Numbers are one type: 42 is 42.0. without: face ids to leave out.
    """

    subject: str | None = None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """A match of a search; similarity is the cosine, -1 to 1."""

    face_id: str
    subject: str
    similarity: float
    metadata: Mapping[str, MetadataValue]


@dataclass(frozen=True, slots=True)
class VectorPage:
    """A page of points, sorted by id; `next_cursor` is None on the last page."""

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
    """The health of a store.

    collections: None if they were not counted. engine_pid, engine_starts: of Qdrant Edge's process.
    """

    detail: str
    collections: int | None
    engine_pid: int | None = None
    engine_starts: int = 0


@dataclass(frozen=True, slots=True)
class VectorTuning:
    """How the engine stores and searches; each field is a setting, see `gateway/settings.py`."""

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
    """A durable store of embeddings.

    A write is acknowledged once a killed process cannot lose it; `flush` returns once a power
    cut cannot. Methods raise UnknownVectorCollectionError, DimensionMismatchError,
    InsufficientStorageError or StorageUnavailableError.
    """

    async def create(self, collection: VectorCollection, *, dimension: int) -> None:
        """Create the collection, unless it exists with the same dimension."""
        ...

    async def collections(self) -> tuple[VectorCollection, ...]:
        """Return all vector collections of this program, sorted."""
        ...

    async def upsert(self, collection: VectorCollection, points: Sequence[FacePoint]) -> None:
        """Write points; a point with the same face id is replaced."""
        ...

    async def delete(self, collection: VectorCollection, face_ids: Sequence[str]) -> int:
        """Remove points by id; returns how many existed."""
        ...

    async def delete_subject(self, collection: VectorCollection, subject: str) -> int:
        """Remove all points of a subject; returns how many existed."""
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
        """Return the nearest faces; `by_subject` returns only the best face of each subject."""
        ...

    async def scroll(
        self,
        collection: VectorCollection,
        *,
        limit: int,
        cursor: str | None = None,
        where: FaceFilter = NO_FILTER,
    ) -> VectorPage:
        """Return points with their vectors, sorted by id, from `cursor` on."""
        ...

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """Return the existing points of these ids, in any order."""
        ...

    async def count(self, collection: VectorCollection, where: FaceFilter = NO_FILTER) -> int:
        """Return the exact number of points."""
        ...

    async def info(self, collection: VectorCollection) -> VectorInfo:
        """Return dimension, points, indexed points and shards."""
        ...

    async def drop(self, collection: VectorCollection) -> bool:
        """Remove the collection and its files; False if there was none."""
        ...

    async def flush(self, collection: VectorCollection) -> None:
        """Write all acknowledged points to the disk; concurrent calls share one flush."""
        ...

    async def health(self) -> VectorHealth:
        """Check the engine; raises StorageUnavailableError if it does not answer."""
        ...

    async def close(self) -> None:
        """Flush and close everything."""
        ...
