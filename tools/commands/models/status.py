"""`aurum models status`, `verify`: which versions there are, and whether they are sound."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tools.commands.models.common import Context, Repository, opened
from tools.commands.models.side_by_side import differences, headline, table_of
from tools.errors import LifecycleError
from tools.registry.candidate_folders import read_plan
from tools.registry.dry_run import check_version
from tools.registry.gateway_view import read_trial
from tools.registry.triton_view import read_settled
from tools.registry.version_store import STAGE_NAMES, stage_name
from tools.registry.view import VersionView, view


def status(*, repository: Repository = None) -> None:
    """Show every version: where it is, its id and space, its digest, what Triton says.

    Of one being tried: how it does beside the version in service, as the gateway has counted.
    """
    with opened(repository) as context:
        states = read_settled(context.settings)
        context.out.print(_table(view(context.version_store, states)))
        if states is None:
            port = context.settings.triton_http_port
            context.out.print(f"No Triton answers on port {port}; states are those of the disk.")
        _show_trial(context)


def verify(
    stages: Annotated[list[str] | None, typer.Argument(help="Else all three.")] = None,
    *,
    repository: Repository = None,
) -> None:
    """Check digests, load every version, kept ones too, and run it; status 1 if one fails."""
    with opened(repository) as context:
        names = [stage_name(stage) for stage in stages] if stages else list(STAGE_NAMES)
        failed = 0
        for name in names:
            version_store = context.version_store
            folders = [
                version_store.placed(name, number) for number in version_store.placed_versions(name)
            ]
            folders += [
                version_store.kept(name, number) for number in version_store.kept_versions(name)
            ]
            for folder in folders:
                problem = _problem(name, folder)
                failed += bool(problem)
                place = "kept " if folder.is_relative_to(version_store.folder) else ""
                text = f"{name} {place}{folder.name}: {problem or 'ok'}"
                context.out.print(text, markup=False)
        if failed:
            raise typer.Exit(1)


def _show_trial(context: Context) -> None:
    plan = read_plan(context.version_store)
    if plan is None:
        return
    context.out.print(headline(plan), markup=False)
    trial = read_trial(context.settings)
    if trial is None or trial.trial != plan.trial:
        port = context.settings.port
        context.out.print(f"The gateway on port {port} does not know of it (yet).", markup=False)
        return
    context.out.print(table_of(trial))
    for line in differences(trial):
        context.out.print(line, markup=False)


def _problem(stage: str, folder: Path) -> str:
    try:
        check_version(stage, folder)
    except LifecycleError as error:
        return str(error)
    return ""


def _table(versions: list[VersionView]) -> Table:
    table = Table()
    for heading in ("stage", "version", "is"):
        table.add_column(heading, no_wrap=True)
    for heading in ("id", "space", "digest", "Triton"):
        table.add_column(heading, overflow="fold")
    for each in versions:
        card, state = each.card, each.state
        said = each.note if state is None else f"{state.state} {state.reason}".strip()
        space = "" if card is None else card.space or (card.id if card.dimension else "")
        table.add_row(
            each.stage,
            str(each.version),
            each.place,
            "" if card is None else card.id,
            space,
            each.digest,
            said,
        )
    return table
