"""`aurum vectors`: move them between homes, check them against the records, change their space."""

import asyncio
import time
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.progress import Progress as Bars
from rich.table import Table

from gateway.collections.base import NothingCached
from gateway.collections.erase import Forgetting
from gateway.collections.factory import open_edge, open_server, open_stores
from gateway.collections.reconcile import Drift, Repair, Repaired
from gateway.errors import AurumError, ConfigurationError
from gateway.records.factory import open_records
from gateway.settings import Settings
from gateway.vectors.base import VectorCollection
from tools.audit_line import BEGUN, note_command
from tools.clients.api_key import key_headers
from tools.clients.listeners import gateway_url
from tools.clients.service_client import gateway_context
from tools.commands.common import fail, read_settings
from tools.vector_copy import Moved, MoveError, Progress, move_all

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Move, check and migrate the vectors of enrolled faces.",
)
_PROGRESS_FILE = "vectors-move.json"
_POLL_SECONDS = 1.0
_UNDER_WAY_SECONDS = 600.0


class Engine(StrEnum):
    """Where vectors may live."""

    EDGE = "edge"
    SERVER = "server"


class Action(StrEnum):
    """What to do about a collection's embedding space."""

    START = "start"
    ROLLBACK = "rollback"
    FINISH = "finish"


@app.callback()
def _group() -> None:
    """Move, check and migrate the vectors of enrolled faces."""


@app.command()
def move(
    to: Annotated[Engine, typer.Option(help="`server`: AURUM_QDRANT_URL; `edge`: AURUM_HOME.")],
) -> None:
    """Copy all vectors to the other store and verify them; an interrupted run resumes.

    Stop the gateway first: nothing may write meanwhile. The old store keeps its copy. The audit log
    gets a line at the beginning and one at the end.
    """
    settings = read_settings()
    url = settings.qdrant_url
    if url is None:
        fail("AURUM_QDRANT_URL names the server, and it is not set")
    try:
        moved = asyncio.run(_move(settings, url, to))
    except (AurumError, ConfigurationError, MoveError) as error:
        fail(error)
    table = Table("collection", "space", "faces", "checksum")
    for each in moved:
        where = each.collection
        name = f"{where.tenant}/{where.collection}"
        table.add_row(name, where.space, f"{each.points:,}", each.checksum[:16])
    Console().print(table)


@app.command()
def check(
    *, repair: Annotated[bool, typer.Option("--repair", help="Repair what differs.")] = False
) -> None:
    """Compare vectors with records, id by id; exit status 1 if they differ.

    Qdrant Edge serves one process at a time: stop the gateway first.
    """
    try:
        repaired, drifts = asyncio.run(_check(read_settings(), repair=repair))
    except AurumError as error:
        fail(error)
    console = Console()
    if repaired is not None and repaired.anything:
        console.print(
            f"settled: {repaired.unacknowledged} never acknowledged, "
            f"{repaired.half_forgotten} half forgotten, {repaired.collections} collections"
        )
    if not drifts:
        console.print("Vectors and records agree.")
        return
    table = Table("collection", "space", "vectors without a face", "faces without a vector")
    for drift in drifts:
        name = f"{drift.index.tenant}/{drift.index.collection}"
        table.add_row(name, drift.index.space, str(len(drift.orphans)), str(len(drift.missing)))
    console.print(table)
    if repair:
        console.print("All of it was removed; enrol the lost faces again.")
        return
    console.print("`aurum vectors check --repair` removes both.")
    raise typer.Exit(1)


@app.command()
def migrate(
    collection: Annotated[str, typer.Argument(help="Name of the collection.")],
    action: Annotated[Action, typer.Option(help="Step of the migration.")] = Action.START,
) -> None:
    """Move a collection that keeps crops to the newest embedding space in the running gateway."""
    settings = read_settings()
    try:
        asyncio.run(_migrate(settings, collection, action))
    except ConfigurationError as error:
        fail(error)
    except (aiohttp.ClientError, TimeoutError) as error:
        fail(f"the gateway at {settings.host}:{settings.port} does not answer: {error}")
    except MoveError as error:
        fail(error)


async def _move(settings: Settings, url: str, to: Engine) -> tuple[Moved, ...]:
    records = await open_records(settings)
    try:
        note = partial(
            note_command, records.audit, "move_vectors", actor=f"aurum vectors move --to {to}"
        )
        await note(outcome=BEGUN)
        moved = await _move_all(settings, url, to)
        faces = sum(each.points for each in moved)
        await note(counts={"vector_collections": len(moved), "vectors": faces})
        return moved
    finally:
        await records.close()


async def _move_all(settings: Settings, url: str, to: Engine) -> tuple[Moved, ...]:
    edge = await open_edge(settings)
    try:
        server = await open_server(settings, url)
        try:
            source, target = (edge, server) if to is Engine.SERVER else (server, edge)
            homes = (str(settings.home.resolve()), url)
            route = homes if to is Engine.SERVER else homes[::-1]
            progress = Progress(settings.home / _PROGRESS_FILE, source=route[0], target=route[1])
            with Bars(console=Console(stderr=True)) as bars:
                tasks: dict[str, Any] = {}

                def report(where: VectorCollection, what: str, done: int, total: int) -> None:
                    text = f"{where.tenant}/{where.collection} {what}"
                    if text not in tasks:
                        tasks[text] = bars.add_task(text, total=total)
                    bars.update(tasks[text], completed=done, total=total)

                return await move_all(source, target, progress, report)
        finally:
            await server.close()
    finally:
        await edge.close()


async def _check(settings: Settings, *, repair: bool) -> tuple[Repaired | None, tuple[Drift, ...]]:
    async with open_stores(settings) as stores:
        repairing = Repair(stores, Forgetting(stores, NothingCached()))
        repaired = None
        if repair:
            # a server may be written to by a gateway right now: what is young is under way
            shared = settings.qdrant_url is not None
            before = time.time() - _UNDER_WAY_SECONDS if shared else None
            repaired = await repairing.settle(older_than=before)
        drifts = await repairing.find_drift()
        if repair:
            await repairing.mend(drifts)
        return repaired, drifts


async def _migrate(settings: Settings, collection: str, action: Action) -> None:
    console = Console()
    base = gateway_url(settings)
    connector = aiohttp.TCPConnector(ssl=gateway_context(base, settings) or True)
    path = f"/api/collections/{collection}"
    async with aiohttp.ClientSession(
        base, headers=key_headers(settings), connector=connector
    ) as client:
        async with client.post(f"{path}/migrate", json={"action": action.value}) as response:
            answer = await response.json(content_type=None)
        if response.status >= 400:
            raise MoveError(answer["detail"])
        if action is not Action.START:
            console.print(f"{collection} lives in space {answer['space']} now.")
            return
        with Bars(console=Console(stderr=True)) as bars:
            task = bars.add_task(collection, total=answer["migration"]["total"])
            while answer["migration"]["state"] == "backfill":
                bars.update(task, completed=answer["migration"]["done"])
                await asyncio.sleep(_POLL_SECONDS)
                async with client.get(path) as response:
                    answer = await response.json()
            bars.update(task, completed=answer["migration"]["done"])
    if answer["migration"]["state"] == "failed":
        raise MoveError(answer["migration"]["detail"])
    console.print(
        f"{collection} lives in space {answer['space']} now; "
        "`--action rollback` goes back, `--action finish` drops the old space."
    )
