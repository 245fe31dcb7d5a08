"""Types and checks that the modules of this package share."""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from gateway.deadline import Deadline
from gateway.errors import InvalidRequestError, NotFoundError
from gateway.records.store import RecordStore
from gateway.records.types import CollectionRecord, FaceRecord, MetadataValue
from gateway.types import Caller
from gateway.vectors.base import NAME, Vector, VectorCollection, VectorStore

Crops = npt.NDArray[np.uint8]
"""[N,112,112,3] uint8 RGB, aligned."""

_FACE_ID: Final = re.compile(r"[0-9a-f-]{36}")
METADATA_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_METADATA_TEXT: Final = 256
MAX_INTEGER: Final = 1 << 53
"""A double holds every integer up to here; a larger float may be a rounded integer."""


class CropEmbedder(Protocol):
    """Embeds aligned faces with the version of the embedding stage that has a given space."""

    async def embed(self, crops: Crops, *, space: str, deadline: Deadline) -> Vector:
        """[N,D] float32, unit length.

        Raises ConflictError if no version in service makes that space.
        """
        ...

    async def current_space(self, *, deadline: Deadline) -> tuple[str, int]:
        """Return the space of the newest version in service, and its dimension."""
        ...


class ClosableEmbedder(CropEmbedder, Protocol):
    """A `CropEmbedder` with connections."""

    async def close(self) -> None:
        """Close them."""
        ...


class ImageForgetter(Protocol):
    """Keeps answers by tenant and image digest."""

    async def forget_images(self, digests: Sequence[str], *, tenant: str) -> int:
        """Delete a tenant's answers of these images; returns how many there were."""
        ...


class NothingCached:
    """An `ImageForgetter` without answers."""

    async def forget_images(self, digests: Sequence[str], *, tenant: str) -> int:
        """Delete nothing."""
        return 0


@dataclass(frozen=True, slots=True)
class Stores:
    """The vectors and the records of all collections."""

    vectors: VectorStore
    records: RecordStore

    async def collection(self, caller: Caller, name: str) -> CollectionRecord:
        """Find an active collection of the caller; raises NotFoundError."""
        record = None
        if NAME.fullmatch(name) and caller.sees(name):
            record = await self.records.collections.find(tenant=caller.tenant, name=name)
        if record is None or record.state != "active":
            raise NotFoundError(no_collection(name))
        return record

    async def face(self, collection: CollectionRecord, face_id: str) -> FaceRecord:
        """Find a face of a collection; raises NotFoundError."""
        found: tuple[FaceRecord, ...] = ()
        if _FACE_ID.fullmatch(face_id):
            found = await self.records.faces.get(collection.id, [face_id])
        if not found:
            raise NotFoundError(f"there is no face {face_id[:64]!r} in {collection.name}")
        return found[0]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Numbers of what was deleted, and when (seconds since 1970, UTC)."""

    receipt: str
    at: float
    faces: int
    vectors: int
    crops: int
    cached_answers: int
    job_results: int = 0


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller and the request behind an action, for the audit log."""

    caller: Caller
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class FaceCandidate:
    """A face to enrol.

    vector: [D] float32 in `space`. crop: [112,112,3] uint8 RGB, None for a raw embedding.
    index: of its image or embedding in the request.
    """

    index: int
    vector: Vector
    space: str
    subject: str | None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    crop: Crops | None = None
    box: tuple[float, float, float, float] | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    image_sha256: str | None = None
    detector: str | None = None


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An enrolled face and the index of its image; `duplicate` if it was enrolled before.

    faces_found: in the image that it comes from; None for a raw embedding.
    """

    index: int
    face: FaceRecord
    duplicate: bool
    faces_found: int | None = None


def no_collection(name: str) -> str:
    """Say that a collection does not exist, or not for this caller."""
    return f"there is no collection {name[:64]!r}"


def index_of(record: CollectionRecord, space: str) -> VectorCollection:
    """Return the vector collection of a collection in a space."""
    return VectorCollection(record.tenant, record.name, space)


def new_id() -> str:
    """Make an id that sorts by time, like UUID 7, which keeps database pages together."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | (uuid.uuid4().int & ((1 << 80) - 1))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return str(uuid.UUID(int=value))


def check_metadata(metadata: Mapping[str, object], *, max_entries: int) -> dict[str, MetadataValue]:
    """Refuse metadata that some store cannot keep and filter."""
    if len(metadata) > max_entries:
        raise InvalidRequestError(
            f"metadata has {len(metadata)} entries, the limit is {max_entries}"
        )
    checked: dict[str, MetadataValue] = {}
    for key, value in metadata.items():
        if not METADATA_KEY.fullmatch(key):
            raise InvalidRequestError(
                f"metadata key {key[:80]!r} must match {METADATA_KEY.pattern}"
            )
        checked[key] = _check_value(key, value)
    return checked


def _check_value(key: str, value: object) -> MetadataValue:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= MAX_METADATA_TEXT:
        return value
    if isinstance(value, int) or (isinstance(value, float) and np.isfinite(value)):
        most = MAX_INTEGER if isinstance(value, int) else np.nextafter(MAX_INTEGER, 0)
        if abs(value) <= most:
            return value
        message = f"metadata {key!r} is beyond 2^53, where numbers are not exact: send it as a text"
        raise InvalidRequestError(message)
    message = (
        f"metadata {key!r} must be a boolean, a number, or a string of at most "
        f"{MAX_METADATA_TEXT} characters"
    )
    raise InvalidRequestError(message)
