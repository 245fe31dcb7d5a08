"""The faces that a collection does not enrol: its do-not-enrol list.

An entry is an embedding, sealed, that serves this comparison only. A face matches it as it would
match in a search. An entry of an embedding space that the collection does not use is compared by
embedding the new face in that space, too, as long as a version in service can.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from gateway.collections.base import (
    Actor,
    CropEmbedder,
    FaceCandidate,
    Stores,
    new_id,
)
from gateway.deadline import Deadline
from gateway.errors import ConfigurationError, ConflictError, StorageUnavailableError
from gateway.records.encryption import DataCipher
from gateway.records.refusals import RefusedFace
from gateway.records.types import AuditLine, CollectionRecord, SealedBytes
from gateway.thresholds import Thresholds
from gateway.vectors.base import Vector
from triton_python_backend import contract

_LISTS_AT_ONCE: Final = 64
_BATCH: Final = 32
_STEP_SECONDS: Final = 60.0
log = logging.getLogger(__name__)
Crop = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class NewRefusal:
    """A face to put on a list. vector: [D] float32; crop: to keep for a newer model, or None."""

    vector: Vector
    space: str
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry, and whether faces are compared with it by the models in service."""

    entry: RefusedFace
    is_compared: bool


@dataclass(frozen=True, slots=True)
class _List:
    changes: int
    spaces: Mapping[str, Vector]
    """[N,D] by space."""


class Refusals:
    """The lists of all collections."""

    def __init__(
        self, stores: Stores, embedder: CropEmbedder, cipher: DataCipher, thresholds: Thresholds
    ) -> None:
        self._stores = stores
        self._embedder = embedder
        self._cipher = cipher
        self._thresholds = thresholds
        self._lists: LRUCache[str, _List] = LRUCache(_LISTS_AT_ONCE)

    async def compare(
        self,
        collection: CollectionRecord,
        candidates: Sequence[FaceCandidate],
        *,
        deadline: Deadline,
    ) -> tuple[int, frozenset[int]]:
        """Return the change of the list that was used, and the positions of refused candidates.

        Raises StorageUnavailableError if the list cannot be opened.
        """
        if collection.refusals == 0:
            return 0, frozenset()
        listed = await self._list(collection)
        refused: set[int] = set()
        for space, entries in listed.spaces.items():
            threshold = self._threshold(collection, space)
            positions, vectors = await self._in_space(candidates, space, deadline)
            if positions and vectors.shape[1] == entries.shape[1]:
                best = (vectors @ entries.T).max(axis=1)
                refused |= {
                    p for p, cosine in zip(positions, best, strict=True) if cosine >= threshold
                }
        return listed.changes, frozenset(refused)

    async def add(
        self,
        collection: CollectionRecord,
        faces: Sequence[NewRefusal],
        *,
        reason: str,
        actor: Actor,
    ) -> tuple[RefusedFace, ...]:
        """Put faces on the list; they are refused from now on."""
        entries = tuple(self._entry(face, reason=reason, actor=actor) for face in faces)
        await self._stores.records.refusals.add(collection.id, entries)
        await self._audit(collection, actor, "add_do_not_enrol", entries[0].id, len(entries))
        return entries

    async def remove(
        self, collection: CollectionRecord, entry_id: str, actor: Actor
    ) -> RefusedFace:
        """Take a face off the list; raises NotFoundError."""
        entry = await self._stores.records.refusals.remove(collection.id, entry_id)
        self._lists.pop(collection.id, None)
        await self._audit(collection, actor, "remove_do_not_enrol", entry.id, 1)
        return entry

    async def shown(
        self,
        collection: CollectionRecord,
        entries: Sequence[RefusedFace],
        *,
        deadline: Deadline,
    ) -> tuple[Listed, ...]:
        """Say of each entry whether new faces are compared with it."""
        compared = {
            space: space == collection.space or await self._is_served(space, deadline)
            for space in sorted({entry.space for entry in entries})
        }
        return tuple(Listed(entry, compared[entry.space]) for entry in entries)

    async def matching(
        self, collection: CollectionRecord, vectors: Sequence[Vector], space: str
    ) -> tuple[RefusedFace, ...]:
        """Return the entries of a space that match one of these vectors."""
        _, entries = await self._stores.records.refusals.all(collection.id)
        threshold = self._threshold(collection, space)
        return tuple(
            entry
            for entry in entries
            if entry.space == space
            and any(float(np.dot(self._open(entry), vector)) >= threshold for vector in vectors)
        )

    async def migrate(self, collection: CollectionRecord, target: str) -> int:
        """Embed kept crops in another space; returns how many entries could not be moved."""
        _, entries = await self._stores.records.refusals.all(collection.id)
        foreign = [entry for entry in entries if entry.space != target]
        movable = [entry for entry in foreign if entry.crop is not None]
        for start in range(0, len(movable), _BATCH):
            part = movable[start : start + _BATCH]
            crops = np.stack([self._open_crop(entry) for entry in part])
            deadline = Deadline.after(_STEP_SECONDS)
            vectors = await self._embedder.embed(crops, space=target, deadline=deadline)
            moved = [
                replace(entry, space=target, vector=self._seal(entry.id, vector))
                for entry, vector in zip(part, vectors, strict=True)
            ]
            await self._stores.records.refusals.move(collection.id, moved)
        left = len(foreign) - len(movable)
        if left:
            log.warning(
                "entries of a do-not-enrol list have no crop for the new embedding space",
                extra={"collection": collection.name, "entries": left},
            )
        return left

    async def _list(self, collection: CollectionRecord) -> _List:
        held = self._lists.get(collection.id)
        if held is not None and held.changes == collection.refusals:
            return held
        changes, entries = await self._stores.records.refusals.all(collection.id)
        spaces: dict[str, list[Vector]] = {}
        for entry in entries:
            spaces.setdefault(entry.space, []).append(self._open(entry))
        listed = _List(changes, {space: np.stack(rows) for space, rows in spaces.items()})
        self._lists[collection.id] = listed
        return listed

    async def _in_space(
        self, candidates: Sequence[FaceCandidate], space: str, deadline: Deadline
    ) -> tuple[list[int], Vector]:
        """Return the vectors of those candidates that have one in this space: [N,D]."""
        vectors = {n: c.vector for n, c in enumerate(candidates) if c.space == space}
        crops = {n: c.crop for n, c in enumerate(candidates) if n not in vectors}
        with_crop = [n for n, crop in crops.items() if crop is not None]
        if with_crop:
            stacked = np.stack([crop for crop in crops.values() if crop is not None])
            try:
                made = await self._embedder.embed(stacked, space=space, deadline=deadline)
            except ConflictError:
                log.warning("a do-not-enrol list has entries of a model that is not in service")
            else:
                vectors |= dict(zip(with_crop, made, strict=True))
        positions = sorted(vectors)
        stack = np.stack([vectors[n] for n in positions]) if positions else np.zeros((0, 0))
        return positions, stack.astype(np.float32)

    async def _is_served(self, space: str, deadline: Deadline) -> bool:
        blank = np.zeros((1, contract.CROP_SIZE, contract.CROP_SIZE, 3), dtype=np.uint8)
        try:
            await self._embedder.embed(blank, space=space, deadline=deadline)
        except ConflictError:
            return False
        return True

    def _threshold(self, collection: CollectionRecord, space: str) -> float:
        own = collection.settings.match_threshold
        return self._thresholds.of_space(space) if own is None else own

    def _entry(self, face: NewRefusal, *, reason: str, actor: Actor) -> RefusedFace:
        entry_id = new_id()
        crop = None
        if face.crop is not None:
            crop = self._cipher.seal(_crop_name(entry_id), face.crop.tobytes())
        return RefusedFace(
            id=entry_id,
            space=face.space,
            reason=reason,
            created_at=time.time(),
            created_by=actor.caller.name,
            vector=self._seal(entry_id, face.vector),
            crop=crop,
        )

    def _seal(self, entry_id: str, vector: Vector) -> SealedBytes:
        return self._cipher.seal(_name(entry_id), vector.astype("<f4").tobytes())

    def _open(self, entry: RefusedFace) -> Vector:
        try:
            opened = self._cipher.open(_name(entry.id), entry.vector)
        except ConfigurationError as error:
            message = f"the do-not-enrol list cannot be opened: {error}"
            raise StorageUnavailableError(message) from error
        return np.frombuffer(opened, dtype="<f4").astype(np.float32)

    def _open_crop(self, entry: RefusedFace) -> Crop:
        if entry.crop is None:
            raise AssertionError("asked of entries with a crop only")
        try:
            opened = self._cipher.open(_crop_name(entry.id), entry.crop)
        except ConfigurationError as error:
            raise StorageUnavailableError(f"a crop cannot be opened: {error}") from error
        shape = (contract.CROP_SIZE, contract.CROP_SIZE, 3)
        return np.frombuffer(opened, dtype=np.uint8).reshape(shape)

    async def _audit(
        self, collection: CollectionRecord, actor: Actor, action: str, receipt: str, entries: int
    ) -> None:
        await self._stores.records.audit.add(
            AuditLine(
                at=time.time(),
                tenant=collection.tenant,
                actor=actor.caller.name,
                action=action,
                collection=collection.name,
                receipt=receipt,
                counts={"entries": entries},
                request_id=actor.request_id,
            )
        )


def _name(entry_id: str) -> str:
    return f"refusal/{entry_id}"


def _crop_name(entry_id: str) -> str:
    return f"refusal-crop/{entry_id}"
