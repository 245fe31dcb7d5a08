"""`aurum audit`: the head of the audit log, its verification, its export."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from gateway.errors import AurumError, ConfigurationError
from gateway.jobs.objects.anchors import AnchorBucket
from gateway.records.audit import AuditRecords
from gateway.records.audit_anchor import Anchor, anchor_file, read_anchor_file, write_anchor
from gateway.records.audit_check import Verdict, verify
from gateway.records.audit_keys import load_audit_keys
from gateway.records.factory import open_records
from gateway.settings import Settings
from tools.audit_line import ALL_TENANTS, BEGUN, note_command
from tools.commands.common import fail, note, read_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Show the head of the audit log, verify it, export it.",
)
T = TypeVar("T")
_ACTOR: Final = "aurum audit"


@app.callback()
def _group() -> None:
    """Show the head of the audit log, verify it, export it."""


@app.command()
def head() -> None:
    """Write the last line's number, hash and time: keep it where nobody who runs Aurum can write.

    It is a line of the file that AURUM_AUDIT_ANCHOR_FILE names.
    """
    found = _run(read_settings(), lambda audit: audit.head())
    typer.echo(write_anchor(found).decode(), nl=False)


@app.command("verify")
def verify_log(
    *, as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False
) -> None:
    """Find any line that was changed, removed, inserted, reordered or cut off.

    Reads the whole log and all anchors. Exit status 1 names the first such line. A log that is as
    it was written gets a line about this, if it can be written; another one is left as it is.
    """
    settings = read_settings()
    verdict = _run(settings, lambda audit: _verify(settings, audit))
    if as_json:
        typer.echo(json.dumps({name: getattr(verdict, name) for name in verdict.__slots__}))
    else:
        _describe(verdict)
    if verdict.problem is not None:
        raise typer.Exit(1)


@app.command()
def export(
    *,
    since: Annotated[str | None, typer.Option(help="From this time on (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Before this time (ISO 8601).")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only lines of this tenant.")] = None,
) -> None:
    """Write lines as NDJSON to standard output, oldest first, with their hashes."""
    times = [None if text is None else _seconds(text) for text in (since, until)]
    settings = read_settings()

    async def write(audit: AuditRecords) -> None:
        if settings.audit_reads == "on":
            # before the first line is shown, as for routes that answer bit by bit
            asked = tenant or ALL_TENANTS
            await note_command(audit, "export_audit", actor=_ACTOR, tenant=asked, outcome=BEGUN)
        async for row in audit.rows(since=times[0], until=times[1], tenant=tenant):
            document = {**row, "at": _moment(row["at"]), "at_seconds": row["at"]}
            typer.echo(json.dumps(document))

    _run(settings, write)


async def _verify(settings: Settings, audit: AuditRecords) -> Verdict:
    anchors = await _anchors(settings)
    columns = (TextColumn("lines verified"), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("lines", total=await audit.count())
        verdict = await verify(
            audit.rows(),
            keys=load_audit_keys(settings).by_id,
            anchors=anchors,
            observer=lambda lines: bar.update(task, completed=lines),
        )
    # nothing is added to a log that is evidence
    if verdict.problem is None and settings.audit_reads == "on":
        await _note_verified(audit, verdict)
    return verdict


async def _note_verified(audit: AuditRecords, verdict: Verdict) -> None:
    counts = {"lines": verdict.lines, "anchors": verdict.anchors}
    try:
        await note_command(audit, "verify_audit", actor=_ACTOR, counts=counts)
    except AurumError as error:
        # whoever only verifies may be allowed to read only
        note(f"the log has no line of this verification: {error.detail}")


async def _anchors(settings: Settings) -> Sequence[Anchor]:
    found = [*read_anchor_file(anchor_file(settings))]
    if settings.audit_anchor_url is not None:
        found += await AnchorBucket.open(settings, settings.audit_anchor_url).read()
    return found


def _describe(verdict: Verdict) -> None:
    if verdict.problem is not None:
        fail(f"line {verdict.bad_line} of the audit log: {verdict.problem}")
    span = f", {verdict.first} to {verdict.last}" if verdict.lines else ""
    parts = [f"{verdict.lines} lines{span}, are as they were written"]
    if verdict.expired_through:
        parts.append(f"lines up to {verdict.expired_through} have expired")
    if verdict.unkeyed:
        parts.append(f"{verdict.unkeyed} lines are from before the log was chained")
    parts.append(f"{verdict.anchors} anchors agree" if verdict.anchors else "there is no anchor")
    typer.echo("; ".join(parts))


def _run(settings: Settings, work: Callable[[AuditRecords], Awaitable[T]]) -> T:
    async def run() -> T:
        async with _open(settings) as audit:
            return await work(audit)

    try:
        return asyncio.run(run())
    except (AurumError, ConfigurationError, OSError) as error:
        fail(error)


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[AuditRecords]:
    records = await open_records(settings)
    try:
        yield records.audit
    finally:
        await records.close()


def _seconds(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"not a time: {text[:40]!r} (use 2026-11-30 or 2026-11-30T12:00:00Z)")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
