"""Compares a restored home with the manifest of its backup, and searches in it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.collections.base import NothingCached, Stores
from gateway.collections.erase import Forgetting
from gateway.collections.reconcile import Repair
from gateway.records import clock
from gateway.records.factory import open_records, records_files, records_url
from gateway.records.snapshot import record_snapshot
from gateway.records.types import AuditLine
from gateway.settings import Settings
from gateway.vectors.base import Vector, VectorCollection, VectorStore
from tools.backup.errors import BackupError

_ITSELF: Final = 0.999
"""Similarity that a face has at least with itself; the last bits of a float may differ."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What is in the home now. searched: searches whose best match was right."""

    rows: Mapping[str, int]
    searched: int


async def check(
    settings: Settings,
    vectors: VectorStore,
    manifest: Mapping[str, Any],
    samples: Mapping[VectorCollection, Sequence[Vector]],
) -> Restored:
    """Compare counts, every face with its vector, and search for some; raises BackupError."""
    for name, expected in manifest["vectors"].items():
        where = VectorCollection.parse(name)
        if where is None or not expected:
            continue
        found = await vectors.count(where)
        if found != expected:
            raise BackupError(f"{name}: {found} vectors were restored, the backup has {expected}")
    rows = await _rows(settings, manifest)
    # this migrates nothing: the restore has done it
    records = await open_records(settings, is_restoring=True)
    try:
        stores = Stores(vectors, records)
        repair = Repair(stores, Forgetting(stores, NothingCached()))
        # as at each start: what was never acknowledged, and what was forgotten meanwhile
        await repair.settle()
        if await repair.find_drift():
            raise BackupError("records and vectors differ; see `aurum vectors check`")
        searched = await _search(vectors, samples)
        await records.audit.add(backup_line("restore_backup", manifest))
    finally:
        await records.close()
    return Restored(rows, searched)


def backup_line(action: str, manifest: Mapping[str, Any]) -> AuditLine:
    """Make the line of the audit log about a backup."""
    return AuditLine(
        at=clock.now(),
        tenant="",
        actor="aurum backup",
        action=action,
        collection=None,
        receipt=str(uuid.uuid4()),
        counts={"faces": manifest["rows"].get("faces", 0)},
        request_id=None,
    )


async def _rows(settings: Settings, manifest: Mapping[str, Any]) -> dict[str, int]:
    """Count the rows of each table; raises BackupError unless they are those of the backup."""
    found: dict[str, int] = {}
    async with record_snapshot(records_url(settings), records_files(settings)) as snapshot:
        for table in snapshot.tables:
            found[table] = await snapshot.count(table)
    for table, expected in manifest["rows"].items():
        if found.get(table, expected) != expected:
            message = f"{table}: {found[table]} rows were restored, the backup has {expected}"
            raise BackupError(message)
    return found


async def _search(
    vectors: VectorStore, samples: Mapping[VectorCollection, Sequence[Vector]]
) -> int:
    searched = 0
    for where, some in samples.items():
        for vector in some:
            matches = await vectors.search(where, vector, limit=1, min_similarity=-1.0)
            if not matches or matches[0].similarity < _ITSELF:
                raise BackupError(f"{where.name}: a face does not find itself")
            searched += 1
    return searched
