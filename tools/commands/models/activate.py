"""`aurum models activate`, `rollback`: which version serves."""

from typing import Annotated

import typer

from tools.commands.models.common import Context, Repository, opened
from tools.commands.models.golden import check_before_service
from tools.commands.models.trial import By, Canary, Shadow, terms_of, try_version
from tools.commands.models.waiting import Wait, tell_when_served, warn_of_foreign_head
from tools.registry import changes
from tools.registry.changes import Change
from tools.registry.dry_run import check_version
from tools.registry.version_store import stage_name

Stage = Annotated[str, typer.Argument(help="detection, embedding or scoring.")]


def activate(
    stage: Stage,
    version: Annotated[int | None, typer.Argument(help="Else the newest kept one.")] = None,
    *,
    canary: Canary = None,
    shadow: Shadow = False,
    by: By = "request",
    repository: Repository = None,
    wait: Wait = 30.0,
) -> None:
    """Put a version that was taken out, or an older one, into service, or on trial first."""
    with opened(repository) as context:
        name = stage_name(stage)
        terms = terms_of(canary, shadow=shadow, by=by)
        if terms is not None:
            try_version(context, name, version, terms, wait=wait)
            return
        _tell(
            context,
            changes.activate(context.version_store, name, version, check=check_before_service),
            wait,
        )
        warn_of_foreign_head(context)


def rollback(
    stages: Annotated[list[str], typer.Argument(help="detection, embedding, scoring.")],
    *,
    repository: Repository = None,
    wait: Wait = 30.0,
) -> None:
    """Return to what was in service before; what served until now is kept."""
    with opened(repository) as context:
        names = list(dict.fromkeys(stage_name(stage) for stage in stages))
        done = [
            changes.rollback(context.version_store, name, check=check_version) for name in names
        ]
        for change in done:
            _tell(context, change, wait)
        warn_of_foreign_head(context)


def _tell(context: Context, change: Change, wait: float) -> None:
    context.out.print(f"{change.stage}: {change.before} -> {change.after}", markup=False)
    if change.after is not None:
        tell_when_served(context, change.stage, change.after, seconds=wait)
