"""`aurum keys rotate-storage`: a new storage key, with which everything is sealed anew."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from gateway.errors import AurumError, ConfigurationError
from gateway.jobs.objects.factory import open_objects
from gateway.jobs.rotation import Rotated, Rotation
from gateway.records import clock
from gateway.records.encryption import load_cipher, storage_key_file
from gateway.records.factory import open_records
from gateway.records.key_ring import VARIABLE, KeyRing
from gateway.records.store import RecordStore
from gateway.records.types import AuditLine
from gateway.settings import Settings
from tools.commands.common import fail, note, read_settings

_ACTOR: Final = "aurum keys"
_SETTLED_SECONDS: Final = 60.0
"""What was sealed with the key of before may still be on its way to a store for so long."""
Counts = Mapping[str, Counter[str]]


def rotate_storage(
    *,
    retire: Annotated[
        bool,
        typer.Option(
            "--retire",
            help="Make no new key: seal the rest anew, then remove the keys that nothing uses.",
        ),
    ] = False,
) -> None:
    """Make a new storage key and seal everything anew with it; gateways and workers go on.

    Crops, images and results of jobs, and sealed metadata. A run that was interrupted is finished
    by the next one, which makes no further key. Old keys stay in the file until `--retire`.
    """
    try:
        settings = read_settings()
        is_clean = asyncio.run(_rotate(settings, retire=retire))
    except (AurumError, ConfigurationError, OSError) as error:
        fail(error)
    if not is_clean:
        raise typer.Exit(1)


async def _rotate(settings: Settings, *, retire: bool) -> bool:
    """Return whether everything could be opened."""
    records = await open_records(settings)
    try:
        async with open_objects(settings) as objects:
            cipher = load_cipher(settings)
            rotation = Rotation(records, objects, cipher)
            before = await rotation.count()
            if not retire and _may_add_key(settings, cipher.ring, before):
                await _add_key(settings, records, cipher.ring)
            rotated = await _seal_anew(rotation, before, cipher.current_key_id)
            after = await rotation.count()
            _show(rotated, after, cipher.ring)
            if any(rotated.unreadable.values()):
                _tell(rotated)
                return False
            if retire:
                await _retire(settings, records, cipher.ring, after)
            return True
    finally:
        await records.close()


def _may_add_key(settings: Settings, ring: KeyRing, counts: Counts) -> bool:
    """Whether there is no rotation to finish first."""
    if settings.storage_keys is not None:
        note(f"{VARIABLE} is set: its last key is the current one; add a new one there")
        return False
    if any(_used(counts)[each] for each in ring.by_id if each != ring.current_id):
        note(f"finishing the rotation to key {ring.current_id}; no further key is made")
        return False
    return True


async def _add_key(settings: Settings, records: RecordStore, ring: KeyRing) -> None:
    new = ring.with_new_key()
    file = storage_key_file(settings)
    new.save(file)
    note(f"{file} has the new key {new.current_id}; keep a copy of it elsewhere")
    await _write_line(records, "new_storage_key", new.current_id, {"keys": len(new.by_id)})


async def _seal_anew(rotation: Rotation, before: Counts, current_id: str) -> Rotated:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {
            kind: bars.add_task(kind, total=sum(counts.values()) - counts[current_id])
            for kind, counts in before.items()
        }
        return await rotation.run(lambda kind, number: bars.advance(tasks[kind], number))


async def _retire(settings: Settings, records: RecordStore, ring: KeyRing, counts: Counts) -> None:
    used = _used(counts)
    old = [each for each in ring.by_id if each != ring.current_id]
    unused = [each for each in old if not used[each]]
    for each in old:
        if used[each]:
            note(f"key {each} stays: {used[each]} things are sealed with it")
    if not unused:
        note("no key was removed")
        return
    if settings.storage_keys is not None:
        note(f"nothing uses {', '.join(unused)}: remove them from {VARIABLE}")
        return
    file = storage_key_file(settings)
    left = _SETTLED_SECONDS - (time.time() - file.stat().st_mtime)
    if left > 0:
        fail(f"{file} changed less than a minute ago; try again in {left:.0f} s")
    ring.without(*unused).save(file)
    note(f"removed from {file}: {', '.join(unused)}")
    await _write_line(records, "retire_storage_key", ring.current_id, {"keys": len(unused)})


async def _write_line(
    records: RecordStore, action: str, key_id: str, counts: Mapping[str, int]
) -> None:
    line = AuditLine(
        at=clock.now(),
        tenant="",
        actor=_ACTOR,
        action=action,
        collection=None,
        receipt=key_id,
        counts=counts,
        request_id=None,
    )
    await records.audit.add(line)


def _used(counts: Counts) -> Counter[str]:
    return sum(counts.values(), Counter[str]())


def _show(rotated: Rotated, counts: Counts, ring: KeyRing) -> None:
    table = Table("kind", "sealed anew", "with the current key", "with other keys")
    for kind, by_key in counts.items():
        current = by_key[ring.current_id]
        others = sum(by_key.values()) - current
        table.add_row(kind, f"{rotated.changed[kind]:,}", f"{current:,}", f"{others:,}")
    Console().print(table)


def _tell(rotated: Rotated) -> None:
    for kind, reasons in rotated.unreadable.items():
        if reasons:
            note(f"{len(reasons)} {kind} could not be opened and stay as they are: {reasons[0]}")
    note("no key was removed; put the missing key back into the file and run this again")
