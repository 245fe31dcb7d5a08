"""A version on trial beside the one in service: begun, promoted, aborted. One at a time."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from gateway.rollout.plan import Plan
from tools.errors import LifecycleError
from tools.registry import candidate_folders
from tools.registry.changes import Change, go_to, journalled, opened
from tools.registry.dry_run import Check
from tools.registry.journal import Action, Entry
from tools.registry.repository import SIDECAR_FILE
from tools.registry.version_store import VersionStore
from tools.registry.view import card_of
from triton_python_backend.contract import EMBEDDING_STAGE, SCORING


@dataclass(frozen=True, slots=True)
class Terms:
    """How a version is tried: see `Plan`."""

    mode: Literal["canary", "shadow"]
    share: float = 1.0
    by: Literal["request", "tenant"] = "request"


def begin(
    version_store: VersionStore, stage: str, version: int | None, terms: Terms, *, check: Check
) -> Plan:
    """Try a version that is kept or lies below the one in service; unset, the newest kept one.

    Where this version is being tried already, only the terms change.

    Raises:
        LifecycleError: if there is no such version, it serves already, does not pass `check`, is a
            head for another space, or another trial is under way.
    """
    with opened(version_store):
        running = candidate_folders.read_plan(version_store)
        if version is None:
            version = _version_to_try(version_store, stage, running)
        plan = Plan(
            trial=secrets.token_hex(4),
            stage=stage,
            version=version,
            mode=terms.mode,
            share=terms.share,
            by=terms.by,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        now = version_store.newest(stage)
        entry = Entry(Action.TRY, stage, version, now, now, "begun", _described(terms))
        if running is not None:
            if (running.stage, running.version) != (stage, version):
                raise LifecycleError(_under_way(running))
            journalled(
                version_store, entry, lambda: candidate_folders.write_plan(version_store, plan)
            )
            return plan
        if version == now:
            raise LifecycleError(f"{stage} {version} is in service already")
        kept, placed = version_store.kept(stage, version), version_store.placed(stage, version)
        source = kept if kept.is_dir() else placed
        if not source.is_dir():
            raise LifecycleError(f"{stage} has no version {version}")
        check(stage, source)
        _refuse_foreign_head(version_store, stage, version)
        journalled(
            version_store, entry, lambda: candidate_folders.write(version_store, plan, source)
        )
        return plan


def promote(version_store: VersionStore, *, check: Check) -> Change:
    """Put the version being tried into service. The trial goes on until `end`.

    Raises:
        LifecycleError: if nothing is tried, or the version does not pass `check`.
    """
    with opened(version_store):
        plan = _running(version_store)
        return go_to(version_store, Action.PROMOTE, plan.stage, plan.version, check=check)


def end(version_store: VersionStore) -> None:
    """End the trial of a version that is in service now; nothing to do where there is none."""
    with opened(version_store):
        # whatever opens the journal clears a trial that has reached its end
        return


def abort(version_store: VersionStore, *, reason: str = "", trial: str | None = None) -> Plan:
    """End the trial; the version in service serves all again, the other one stays as it was.

    reason: why the version was found broken; empty where a person ends the trial.
    trial: the id of the trial that is meant; unset: whatever is tried.

    Raises:
        LifecycleError: if nothing is tried, or another trial is under way.
    """
    with opened(version_store):
        plan = _running(version_store)
        if trial is not None and plan.trial != trial:
            raise LifecycleError(_under_way(plan))
        now = version_store.newest(plan.stage)
        entry = Entry(Action.ABORT, plan.stage, plan.version, now, now, "begun", reason)
        journalled(version_store, entry, lambda: candidate_folders.remove(version_store))
        return plan


def _running(version_store: VersionStore) -> Plan:
    plan = candidate_folders.read_plan(version_store)
    if plan is None:
        raise LifecycleError("no version is being tried")
    return plan


def _version_to_try(version_store: VersionStore, stage: str, running: Plan | None) -> int:
    if running is not None and running.stage == stage:
        return running.version
    kept = version_store.kept_versions(stage)
    if not kept:
        raise LifecycleError(f"{stage} has no kept version to try")
    return kept[-1]


def _under_way(plan: Plan) -> str:
    return (
        f"{plan.stage} {plan.version} is being tried: "
        "`aurum models promote` or `aurum models abort` ends that first"
    )


def _described(terms: Terms) -> str:
    return "shadow" if terms.mode == "shadow" else f"canary {terms.share:.4%} by {terms.by}"


def _refuse_foreign_head(version_store: VersionStore, stage: str, version: int) -> None:
    """A head that rates another space than the one in service would only answer nothing."""
    newest = version_store.newest(EMBEDDING_STAGE.name)
    if stage != SCORING.name or newest is None:
        return
    embedding = card_of(version_store.placed(EMBEDDING_STAGE.name, newest) / SIDECAR_FILE)
    folders = (version_store.kept(stage, version), version_store.placed(stage, version))
    head = next((card for folder in folders if (card := card_of(folder / SIDECAR_FILE))), None)
    if head and embedding and head.space != embedding.id:
        raise LifecycleError(
            f"{stage} {version} rates embeddings of space {head.space}; those in service come in "
            f"{embedding.id}"
        )
