"""`aurum keys`: API keys, directly in the records: made, listed, changed, ended; storage keys."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from gateway.errors import AurumError, ConfigurationError
from gateway.jobs.objects.erasures import open_register
from gateway.records import clock
from gateway.records.factory import open_records
from gateway.records.keys import ApiKeyRecord
from gateway.records.store import RecordStore
from gateway.security.factory import key_service, pepper_file
from gateway.security.key_service import DAY_SECONDS, KeyRequest, KeyService, NewKey
from gateway.security.peppers import Peppers
from gateway.security.roles import Role
from gateway.settings import Settings
from gateway.types import DEFAULT_TENANT, RateLimits
from tools.audit_line import ALL_TENANTS, note_command
from tools.commands.common import fail, note, read_settings
from tools.commands.storage_keys import rotate_storage

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Create, list, limit, rotate and revoke API keys; rotate storage keys.",
)
T = TypeVar("T")
_ACTOR: Final = "aurum keys"
_HOUR_SECONDS: Final = 3600
_PAGE: Final = 1000
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]
KeyId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the key: its part between the first underscores.")
]


class LimitName(StrEnum):
    """A limit of a key."""

    REQUESTS_PER_MINUTE = "requests-per-minute"
    BURST = "burst"
    MEGAPIXELS_PER_MINUTE = "megapixels-per-minute"
    CONCURRENT = "concurrent"


@app.callback()
def _group() -> None:
    """Create, list, limit, rotate and revoke API keys; rotate storage keys."""


@app.command()
def create(
    *,
    name: Annotated[str, typer.Option(help="Whom or what the key is for.")],
    role: Annotated[list[Role], typer.Option(help="What it may do; repeat for several.")],
    tenant: Annotated[
        str, typer.Option(help="Whose collections and audit it sees.")
    ] = DEFAULT_TENANT,
    collection: Annotated[
        list[str] | None,
        typer.Option(help="Limit it to this collection; repeat for several. Default: all."),
    ] = None,
    expires_in_days: Annotated[
        float | None, typer.Option(help="Days for which it is valid; default: for good.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Requests a minute, instead of the gateway's default.")
    ] = None,
    burst: Annotated[
        int | None, typer.Option(help="Requests at once; default: those of a minute.")
    ] = None,
    megapixels_per_minute: Annotated[
        int | None, typer.Option(help="Megapixels a minute of the images that it sends.")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(help="Requests that are answered at a time.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and write it to standard output, this once."""
    request = KeyRequest(
        tenant=tenant,
        name=name,
        roles=role,
        collections=collection or None,
        expires_in_seconds=None if expires_in_days is None else expires_in_days * DAY_SECONDS,
        limits=RateLimits(requests_per_minute, burst, megapixels_per_minute, concurrent),
    )
    settings = read_settings()
    made = _run(settings, lambda keys: keys.create(request, by=_ACTOR))
    _show_new(made, settings, as_json=as_json)


@app.command("list")
def list_keys(
    *,
    tenant: Annotated[str | None, typer.Option(help="Only keys of this tenant.")] = None,
    as_json: AsJson = False,
) -> None:
    """List keys without their secrets, oldest first."""

    async def all_pages(records: RecordStore) -> list[ApiKeyRecord]:
        found: list[ApiKeyRecord] = []
        after = None
        while page := await records.keys.page(tenant=tenant, limit=_PAGE, after=after):
            found += page
            after = (page[-1].created_at, page[-1].id)
        if settings.audit_reads == "on":
            asked = ALL_TENANTS if tenant is None else tenant
            counts = {"keys": len(found)}
            await note_command(
                records.audit, "list_keys", actor=_ACTOR, tenant=asked, counts=counts
            )
        return found

    settings = read_settings()
    records = _on_records(settings, all_pages)
    if as_json:
        _write_json([_document(record) for record in records])
        return
    table = Table()
    # whole, to be copied
    table.add_column("id", no_wrap=True, min_width=12)
    for name in ("tenant", "name", "roles", "collections", "state", "last used"):
        table.add_column(name)
    for record in records:
        table.add_row(
            record.id,
            record.tenant,
            record.name,
            ", ".join(record.roles),
            "all" if record.collections is None else ", ".join(record.collections),
            _state(record),
            _moment(record.last_used_at) or "never",
        )
    Console().print(table)


@app.command()
def limit(
    key_id: KeyId,
    *,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Requests a minute, instead of the gateway's default.")
    ] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    megapixels_per_minute: Annotated[
        int | None, typer.Option(help="Megapixels a minute of the images that it sends.")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(help="Requests that are answered at a time.")
    ] = None,
    reset: Annotated[
        list[LimitName] | None,
        typer.Option(help="Remove this limit of the key: the gateway's default then applies."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change limits of a key, others stay; running gateways follow within two seconds."""
    given = RateLimits(requests_per_minute, burst, megapixels_per_minute, concurrent)
    changes = {name: value for name, value in asdict(given).items() if value is not None}
    removed = {each.replace("-", "_") for each in reset or ()}
    if not changes and not removed:
        fail("name a limit to change, or one to --reset")
    if twice := sorted(removed & changes.keys()):
        fail(f"{twice[0]} is both given and reset")
    wanted = changes | dict.fromkeys(removed)
    record = _run(
        read_settings(),
        lambda keys: keys.change_limits(key_id, wanted, tenant=None, by=_ACTOR),
    )
    if as_json:
        _write_json(_document(record))
        return
    own = [f"{name} {value:,}" for name, value in asdict(record.limits).items() if value]
    note(f"key {record.id} has {', '.join(own) if own else 'no limits of its own'}")


@app.command()
def rotate(
    key_id: KeyId,
    *,
    overlap_hours: Annotated[
        float, typer.Option(help="Hours for which the old key stays valid.")
    ] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Make a key like another one, which expires after the overlap."""
    settings = read_settings()
    overlap_seconds = overlap_hours * _HOUR_SECONDS
    rotated = _run(
        settings,
        lambda keys: keys.rotate(key_id, overlap_seconds=overlap_seconds, tenant=None, by=_ACTOR),
    )
    note(f"key {rotated.old.id} is valid until {_moment(rotated.old.expires_at)}")
    _show_new(rotated.new, settings, as_json=as_json)


@app.command()
def revoke(key_id: KeyId, *, as_json: AsJson = False) -> None:
    """End a key; running gateways refuse it within two seconds."""
    record = _run(read_settings(), lambda keys: keys.revoke(key_id, tenant=None, by=_ACTOR))
    if as_json:
        _write_json(_document(record))
    else:
        note(f"key {record.id} ({record.name}) was revoked at {_moment(record.revoked_at)}")


@app.command("new-pepper")
def new_pepper() -> None:
    """Add a pepper, under which new keys are hashed; running gateways need a restart.

    Keys of older peppers stay valid as long as those are in the file.
    """
    settings = read_settings()
    file = pepper_file(settings)
    try:
        peppers = Peppers.add(file)
    except (ConfigurationError, OSError) as error:
        fail(error)
    note(f"{file} has {len(peppers.by_id)} peppers; new keys use {peppers.active_id}")


app.command("rotate-storage")(rotate_storage)


def _run(settings: Settings, work: Callable[[KeyService], Awaitable[T]]) -> T:
    return _on_records(
        settings, lambda records: work(key_service(settings, records, open_register(settings)))
    )


def _on_records(settings: Settings, work: Callable[[RecordStore], Awaitable[T]]) -> T:
    async def run() -> T:
        records = await open_records(settings)
        try:
            return await work(records)
        finally:
            await records.close()

    try:
        return asyncio.run(run())
    except (AurumError, ConfigurationError, OSError) as error:
        fail(error)


def _show_new(made: NewKey, settings: Settings, *, as_json: bool) -> None:
    if as_json:
        _write_json({**_document(made.record), "key": made.key.text})
    else:
        typer.echo(made.key.text)
    roles = ", ".join(made.record.roles)
    note(f"key {made.record.id} of tenant {made.record.tenant} may {roles}; it is shown this once")
    if settings.authentication != "on":
        note(
            "AURUM_AUTHENTICATION is not on: a gateway with these settings asks nobody for a key",
            style="bold yellow",
        )


def _document(record: ApiKeyRecord) -> dict[str, Any]:
    return {
        "key_id": record.id,
        "tenant": record.tenant,
        "name": record.name,
        "roles": record.roles,
        "collections": record.collections,
        "created_at": _moment(record.created_at),
        "created_by": record.created_by,
        "expires_at": _moment(record.shown_expiry),
        "revoked_at": _moment(record.revoked_at),
        "last_used_at": _moment(record.last_used_at),
        "replaces": record.replaces,
        "limits": asdict(record.limits),
        "pepper": record.pepper_id,
        "state": _state(record),
    }


def _state(record: ApiKeyRecord) -> str:
    if record.revoked_at is not None:
        return "revoked"
    if record.has_broken_expiry:
        return "expired: what is stored as its expiry is no time"
    if not record.is_valid(at=clock.now()):
        return "expired"
    return "valid" if record.expires_at is None else f"valid until {_moment(record.shown_expiry)}"


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2))
