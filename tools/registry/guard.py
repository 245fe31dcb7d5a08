"""Before Triton starts: a newest version that does not work makes way for the one below.

While Triton runs it keeps the old version when a new one fails to load. At a start it has no old
one, and the stage would be missing.
"""

from collections.abc import Callable

from tools.errors import LifecycleError
from tools.registry.candidate_folders import read_plan, weights_folder
from tools.registry.candidates import abort
from tools.registry.changes import withdraw
from tools.registry.dry_run import check_version
from tools.registry.version_store import STAGE_NAMES, VersionStore


def withdraw_broken(version_store: VersionStore, *, report: Callable[[str], None]) -> None:
    """Take out the newest versions that do not work, where a lower one does.

    Where none works, all stay as they are, and Triton says why. A version being tried that does
    not work is not tried any more.
    """
    for stage in STAGE_NAMES:
        broken: list[tuple[int, str]] = []
        for version in reversed(version_store.placed_versions(stage)):
            try:
                check_version(stage, version_store.placed(stage, version))
            except LifecycleError as error:
                broken.append((version, str(error)))
                continue
            for number, reason in broken:
                withdraw(version_store, stage, number, reason=reason)
                report(f"{stage} {number} is taken out, {version} serves: {reason}")
            break
    _end_broken_trial(version_store, report=report)


def end_trial(version_store: VersionStore, *, reason: str, report: Callable[[str], None]) -> None:
    """End the trial under way, if there is one, and say why."""
    if read_plan(version_store) is not None:
        plan = abort(version_store, reason=reason)
        report(f"{plan.stage} {plan.version} is not tried any more: {reason}")


def _end_broken_trial(version_store: VersionStore, *, report: Callable[[str], None]) -> None:
    plan = read_plan(version_store)
    if plan is None:
        return
    try:
        check_version(plan.stage, weights_folder(version_store, plan))
    except LifecycleError as error:
        end_trial(version_store, reason=str(error), report=report)
