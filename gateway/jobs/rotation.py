"""Seals everything anew with the current storage key, while gateways and workers go on.

A run may be killed at any time: what was sealed anew stays so, and the next run does the rest.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.concurrency import run_together
from gateway.errors import ConfigurationError
from gateway.jobs.objects.base import ObjectMissingError, job_of
from gateway.jobs.objects.sealed import SealedObjects
from gateway.records.encryption import DataCipher
from gateway.records.sealed_rows import KINDS
from gateway.records.store import RecordStore

OBJECTS: Final = "images of jobs"
_AT_ONCE: Final = 8
_PASSES: Final = 5
Observer = Callable[[str, int], None]
"""Called with a kind and how many of it were looked at since the last call."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """How many of each kind were sealed anew, and what could not be opened."""

    changed: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, list[str]] = field(default_factory=dict)


class Rotation:
    """Everything that is sealed, in the records and in the object store."""

    def __init__(self, records: RecordStore, objects: SealedObjects, cipher: DataCipher) -> None:
        self._records = records
        self._objects = objects
        self._cipher = cipher

    async def count(self) -> Mapping[str, Counter[str]]:
        """Count what is sealed, by kind and key id; objects that are not sealed have none."""
        found = {kind.name: await self._records.sealed.count(kind) for kind in KINDS}
        objects: Counter[str] = Counter()
        for job_id in await self._objects.jobs():
            for key in await self._keys(job_id):
                try:
                    objects[await self._objects.key_id(key)] += 1
                except ObjectMissingError:
                    continue
        objects.pop("", None)
        return {**found, OBJECTS: objects}

    async def run(self, observer: Observer = lambda _kind, _number: None) -> Rotated:
        """Seal anew what has another key than the current one.

        Goes over it again while others still write with the key that was current before; raises
        StorageUnavailableError or JobsUnavailableError where a store is away.
        """
        rotated = Rotated()
        for _ in range(_PASSES):
            changed = await self._pass(rotated, observer)
            if not changed:
                break
        return rotated

    async def _pass(self, rotated: Rotated, observer: Observer) -> int:
        changed = 0
        for kind in KINDS:
            after = None
            unreadable: list[str] = []
            while True:
                page = await self._records.sealed.reseal(kind, self._cipher, after=after)
                observer(kind.name, page.changed)
                rotated.changed[kind.name] += page.changed
                changed += page.changed
                unreadable += page.unreadable
                after = page.after
                if after is None:
                    break
            rotated.unreadable[kind.name] = unreadable
        rotated.unreadable[OBJECTS] = []
        for job_id in await self._objects.jobs():
            keys = await self._keys(job_id)
            if not keys:
                continue
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                done = await run_together(self._object(key, rotated) for key in part)
                observer(OBJECTS, sum(done))
                rotated.changed[OBJECTS] += sum(done)
                changed += sum(done)
            await self._objects.flush(job_id)
        return changed

    async def _keys(self, job_id: str) -> list[str]:
        try:
            return list(await self._objects.keys(job_id))
        except ValueError:
            # a folder of somebody else who shares the bucket or the disk
            return []

    async def _object(self, key: str, rotated: Rotated) -> bool:
        """Seal an object anew; whether it had another key."""
        try:
            if await self._objects.key_id(key) in ("", self._cipher.current_key_id):
                return False
            data = await self._objects.get(key)
        except ObjectMissingError:
            return False
        except ConfigurationError as error:
            rotated.unreadable[OBJECTS].append(str(error))
            return False
        await self._objects.put(key, data)
        if not await self._records.sealed.needs_image(job_of(key), int(key.rpartition("/")[2])):
            # it ended, or its job did, while it was being written: what was deleted stays deleted
            await self._objects.delete([key])
        return True
