"""Reads a whole archive and checks it, without restoring anything."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tools.backup import names
from tools.backup.errors import BackupError
from tools.backup.keys import UsedKeys
from tools.backup.members import Begin, Finished, Items, read_members
from tools.backup.places import Place
from tools.backup.sealed_stream import Source, read_sealed
from tools.backup.secret import BackupSecret

_FACES: Final = names.RECORDS + "faces"
Watch = Callable[[int], None]
"""Called with the number of bytes that were read so far."""


@dataclass(slots=True)
class _Seen:
    """What the archive turned out to contain."""

    rows: Counter[str] = field(default_factory=Counter)
    vectors: Counter[str] = field(default_factory=Counter)
    faces: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Acknowledged faces by collection id and space."""
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    collections: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Tenant and name by id."""
    keys: dict[str, bytes] = field(default_factory=dict)
    used: UsedKeys = field(default_factory=UsedKeys)


class _Counted:
    """A `Source` that tells how much of it was read."""

    def __init__(self, source: Source, watch: Watch) -> None:
        self._source = source
        self._watch = watch
        self._read = 0

    async def read(self, size: int) -> bytes:
        """See `Source.read`."""
        data = await self._source.read(size)
        self._read += len(data)
        self._watch(self._read)
        return data


async def watch_of(place: Place, name: str, report: Callable[[str, int, int], None]) -> Watch:
    """Report the kilobytes of an archive that were read, of how many."""
    sizes = {each.name: each.size for each in await place.archives()}
    total = -(-sizes.get(name, 0) // 1000)
    return lambda done: report("kB verified", -(-done // 1000), total)


async def verify(
    place: Place, name: str, secret: BackupSecret, watch: Watch = lambda _: None
) -> dict[str, Any]:
    """Check every byte, count and key of an archive; returns its manifest with the seconds it took.

    The digests of all parts, the rows and vectors against the manifest, each acknowledged face
    against its vector, and each key that a row names against the keys. `needed_keys` of the answer
    are the ids that rows name. Raises BackupError.
    """
    started = time.monotonic()
    seen = _Seen()
    source = await place.reader(name)
    member = Begin("", {})
    manifest: Mapping[str, Any] = {}
    async for frame in read_members(read_sealed(_Counted(source, watch), secret)):
        match frame:
            case Begin():
                member = frame
                if frame.name.startswith(names.VECTORS):
                    seen.vectors[frame.name.removeprefix(names.VECTORS)] += 0
            case Items():
                _note(seen, member, frame.items)
            case Finished():
                manifest = frame.manifest
            case _:
                pass
    _compare(seen, manifest)
    needed = {kind: sorted(ids) for kind, ids in seen.used.ids.items() if ids}
    seconds = round(time.monotonic() - started, 3)
    return {**manifest, "needed_keys": needed, "verified_seconds": seconds}


def _note(seen: _Seen, member: Begin, items: Sequence[Any]) -> None:
    if member.name.startswith(names.RECORDS):
        table, columns = member.name.removeprefix(names.RECORDS), member.about["columns"]
        seen.rows[table] += len(items)
        seen.used.add(table, columns, items)
        if table in ("collections", "faces"):
            for row in items:
                _note_row(seen, member.name, dict(zip(columns, row, strict=True)))
    elif member.name.startswith(names.VECTORS):
        seen.vectors[member.name.removeprefix(names.VECTORS)] += len(items)
    elif member.name == names.LEFT_OUT:
        seen.left_out.update((collection_id, space) for collection_id, space, *_ in items)
    elif member.name.startswith(names.KEYS):
        seen.keys[member.name.removeprefix(names.KEYS)] = b"".join(items)


def _note_row(seen: _Seen, member: str, row: Mapping[str, Any]) -> None:
    if member != _FACES:
        seen.collections[row["id"]] = (row["tenant"], row["name"])
    elif row["state"] == "committed":
        for space in {row["space"], row["copied_to"]} - {None}:
            seen.faces[row["collection_id"], space] += 1


def _compare(seen: _Seen, manifest: Mapping[str, Any]) -> None:
    for kind, counted in (("rows", seen.rows), ("vectors", seen.vectors)):
        expected = manifest[kind]
        for name in sorted({*expected, *counted}):
            if expected.get(name, 0) != counted[name]:
                message = (
                    f"{name}: the archive has {counted[name]} {kind}, its manifest says "
                    f"{expected.get(name, 0)}"
                )
                raise BackupError(message)
    for (collection_id, space), faces in seen.faces.items():
        tenant, name = seen.collections[collection_id]
        vectors = seen.vectors[f"aurum~{tenant}~{name}~{space}"]
        if vectors + seen.left_out[collection_id, space] != faces:
            message = f"{tenant}/{name}: {faces} faces, but {vectors} vectors in space {space}"
            raise BackupError(message)
    missing = seen.used.missing(seen.keys)
    if manifest["has_keys"] and missing != manifest["missing_keys"]:
        raise BackupError("the archive lacks keys that its rows need")
