"""`aurum backup`: create, list, verify and restore encrypted backups."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from gateway.collections.factory import open_vectors
from gateway.errors import AurumError, ConfigurationError
from gateway.records.erasure_register import register_file
from gateway.records.factory import open_records
from tools.backup.check import backup_line
from tools.backup.create import FORGOTTEN, LOST, Parts, Report
from tools.backup.create import create as create_archive
from tools.backup.erase_again import erase_again
from tools.backup.errors import BackupError
from tools.backup.places import Place, Stored, choose, open_place
from tools.backup.registers import read_registers
from tools.backup.restore import restore as restore_archive
from tools.backup.retention import prune
from tools.backup.sealed_stream import read_head
from tools.backup.secret import load_secret
from tools.backup.verify import verify as verify_archive
from tools.backup.verify import watch_of
from tools.commands.common import fail, note, read_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Back up everything that must survive, verify backups, restore them.",
)
T = TypeVar("T")
PlaceArgument = Annotated[
    str, typer.Argument(metavar="PLACE", help="A folder, or `s3://bucket/prefix`.")
]
Name = Annotated[str | None, typer.Option(help="Name of the backup; the latest by default.")]
Erasures = Annotated[
    list[Path] | None,
    typer.Option(
        help="A register of erasures, or a receipt of `aurum subjects erase`, besides the register "
        "that the settings name; repeat for several."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]


@app.callback()
def _group() -> None:
    """Back up everything that must survive, verify backups, restore them."""


@app.command()
def create(
    place: PlaceArgument,
    *,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Then delete all backups but the newest so many.")
    ] = None,
    keys: Annotated[bool, typer.Option(help="With storage keys, pepper and audit keys.")] = True,
    jobs: Annotated[bool, typer.Option("--jobs", help="With the images of jobs.")] = False,
    weights: Annotated[
        bool, typer.Option("--models", help="With the weights of all models.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write an encrypted backup; the service may run meanwhile.

    AURUM_BACKUP_PASSPHRASE_FILE or AURUM_BACKUP_KEY_FILE encrypts it. Without the keys, stored
    crops, sealed metadata and API keys are useless after a restore.
    """
    settings = read_settings()
    parts = Parts(keys=keys, job_images=jobs, weights=weights)

    async def work(report: Report) -> dict[str, Any]:
        opened, secret = open_place(settings, place), load_secret(settings)
        manifest = await create_archive(settings, opened, secret, parts, report)
        records = await open_records(settings)
        try:
            await records.audit.add(backup_line("create_backup", manifest))
        finally:
            await records.close()
        deleted = [] if keep is None else await prune(opened, keep=keep)
        return {**manifest, "deleted": list(deleted)}

    done = _run(work)
    if as_json:
        typer.echo(json.dumps(done))
        return
    _show(f"{done['name']}, {decimal(done['bytes'])}, {done['seconds']:.1f} s", done)
    for name in done["deleted"]:
        note(f"deleted {name}")


@app.command("list")
def list_backups(place: PlaceArgument, *, as_json: AsJson = False) -> None:
    """List the backups of a place, oldest first; needs no passphrase."""
    settings = read_settings()

    async def work(_: Report) -> list[dict[str, Any]]:
        opened = open_place(settings, place)
        return [await _describe(opened, each) for each in await opened.archives()]

    found = _run(work)
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        note("there are no backups here")
        return
    table = Table()
    # whole, to be copied
    table.add_column("name", no_wrap=True, min_width=max(len(each["name"]) for each in found))
    for name in ("size", "made", "release"):
        table.add_column(name)
    for each in found:
        table.add_row(each["name"], decimal(each["bytes"]), each["created"], each["release"])
    Console().print(table)


@app.command()
def verify(place: PlaceArgument, *, name: Name = None, as_json: AsJson = False) -> None:
    """Read a whole backup: every byte, count and key. Restores nothing."""
    settings = read_settings()

    async def work(report: Report) -> dict[str, Any]:
        opened, secret = open_place(settings, place), load_secret(settings)
        chosen = await choose(opened, name)
        watch = await watch_of(opened, chosen, report)
        manifest = await verify_archive(opened, chosen, secret, watch)
        return {"name": chosen, **manifest}

    done = _run(work)
    if as_json:
        typer.echo(json.dumps(done))
        return
    _show(f"{done['name']} is whole, {done['verified_seconds']:.1f} s", done)


@app.command()
def restore(
    place: PlaceArgument,
    *,
    name: Name = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace all that the home has now.")
    ] = False,
    erasures: Erasures = None,
    keys_are_lost: Annotated[
        bool,
        typer.Option("--keys-are-lost", help="Restore a backup without keys where none are left."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the stores that the settings name into the state of a backup.

    Stop all gateways and workers first. The backup is verified before anything is touched; counts,
    vectors and searches are checked afterwards; whoever was erased since the backup is erased
    again, and keys that were revoked since are revoked. The stores may be of another kind than
    before.
    """
    settings = read_settings()

    async def work(report: Report) -> dict[str, Any]:
        opened, secret = open_place(settings, place), load_secret(settings)
        chosen = await choose(opened, name)
        return await restore_archive(
            settings,
            opened,
            chosen,
            secret,
            replace=replace,
            report=report,
            erasures=erasures or (),
            keys_are_lost=keys_are_lost,
        )

    done = _run(work)
    if as_json:
        typer.echo(json.dumps(done))
        return
    _show(f"{done['name']} of {_moment(done['created_at'])}, {done['seconds']:.1f} s", done)
    note(f"{done['searched']} faces were searched for, and each found itself")
    if done["registers"]:
        note(_again(done["erased_again"], done["registers"]))
    for line in done["notes"]:
        note(line)


@app.command("erase-again")
def erase_again_command(*, erasures: Erasures = None, as_json: AsJson = False) -> None:
    """Erase again what registers and receipts name, after a restore that did not have them.

    Stop the gateway first. Whoever was enrolled again after the erasure stays.
    """
    settings = read_settings()

    async def work(_: Report) -> dict[str, Any]:
        registers = await read_registers(settings, erasures or ())
        if not registers.sources:
            raise BackupError(f"there is no register of erasures ({register_file(settings)})")
        vectors = await open_vectors(settings)
        try:
            again, notes = await erase_again(settings, vectors, registers)
        finally:
            await vectors.close()
        return {"erased_again": again, "registers": list(registers.sources), "notes": notes}

    done = _run(work)
    if as_json:
        typer.echo(json.dumps(done))
        return
    for line in (_again(done["erased_again"], done["registers"]), *done["notes"]):
        note(line)


def _again(again: Mapping[str, int], registers: Sequence[str]) -> str:
    counts = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in again.items())
    return f"erased again, by {', '.join(registers)}: {counts}"


async def _describe(place: Place, stored: Stored) -> dict[str, Any]:
    try:
        head, _ = await read_head(await place.reader(stored.name))
    except BackupError:
        head = {}
    made = head.get("created_at")
    return {
        "name": stored.name,
        "bytes": stored.size,
        "created": "damaged" if made is None else _moment(made),
        "release": str(head.get("release", "")),
    }


def _show(title: str, done: Mapping[str, Any]) -> None:
    """Write a table of counts, and what is missing."""
    Console(highlight=False, soft_wrap=True).print(title, markup=False)
    table = Table("kind", "number")
    for kind in ("collections", "faces", "subjects", "crops", "api_keys", "jobs", "audit"):
        table.add_row(kind, f"{done['rows'].get(kind, 0):,}")
    for vectors, number in done["vectors"].items():
        table.add_row(vectors.partition("~")[2].replace("~", "/"), f"{number:,} vectors")
    Console().print(table)
    left_out = done["left_out"]
    if left_out[FORGOTTEN]:
        note(f"{left_out[FORGOTTEN]} faces that were deleted meanwhile are left out")
    if left_out[LOST]:
        note(f"warning: {left_out[LOST]} faces have no vector; see `aurum vectors check`")
    if not done.get("has_keys", True):
        note("warning: without keys; crops, sealed metadata and API keys need them")
    for kind, ids in done.get("missing_keys", {}).items():
        note(f"warning: {kind} keys are missing in the home, too: {', '.join(ids)}")


def _run(work: Callable[[Report], Coroutine[Any, Any, T]]) -> T:
    try:
        with _bars() as report:
            return asyncio.run(work(report))
    except (AurumError, ConfigurationError, BackupError, OSError) as error:
        fail(error)


@contextmanager
def _bars() -> Iterator[Report]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
