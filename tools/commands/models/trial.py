"""`aurum models promote`, `abort`, and `activate --canary` and `--shadow`: a version on trial."""

import re
import time
from typing import Annotated, Final, Literal

import typer

from gateway.rollout.plan import Plan
from tools.commands.models.common import Context, Repository, opened
from tools.commands.models.golden import check_before_service
from tools.commands.models.waiting import Wait, tell_when_served, warn_of_foreign_head
from tools.errors import LifecycleError
from tools.registry import candidates
from tools.registry.candidates import Terms
from tools.registry.gateway_view import gateway_answers, read_trial
from tools.registry.triton_view import read_states, wait_for
from triton_python_backend.contract import PIPELINE, UNSCORED, candidate_of

Canary = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Let it answer a share of the requests only, say 10%."),
]
Shadow = Annotated[
    bool, typer.Option("--shadow", help="Run it beside the version in service, unseen.")
]
By = Annotated[
    Literal["request", "tenant"], typer.Option(help="Whose id decides in a canary: the request's.")
]
_POLL_SECONDS: Final = 0.1
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")


def terms_of(canary: str | None, *, shadow: bool, by: Literal["request", "tenant"]) -> Terms | None:
    """Read the options of `activate`; None where the version goes into service at once.

    Raises:
        LifecycleError: if they contradict each other or the share is none.
    """
    if canary is None:
        if by != "request":
            raise LifecycleError("--by says who is answered by a canary: give --canary, too")
        return Terms("shadow") if shadow else None
    if shadow:
        raise LifecycleError("--canary answers requests and --shadow does not: choose one")
    match = _PERCENT.fullmatch(canary.strip())
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise LifecycleError(f"{canary!r} is no share: write 10%, more than 0% and up to 100%")
    return Terms("canary", share, by)


def try_version(
    context: Context, stage: str, version: int | None, terms: Terms, *, wait: float
) -> None:
    """Begin a trial, or change its terms, and say when it runs.

    Raises:
        LifecycleError: if it cannot be begun, or Triton refuses the version; then it is ended.
    """
    plan = candidates.begin(
        context.version_store, stage, version, terms, check=check_before_service
    )
    waited = _wait(context, plan, wait)
    answers = f"answers {plan.share * 100:.4g}% of requests"
    does = answers if plan.mode == "canary" else "runs in the shadow"
    after = "" if waited is None else f" after {waited:.1f} s"
    context.out.print(f"{plan.stage} {plan.version} {does}{after}", markup=False)
    context.out.print("see `aurum models status`, then `promote` or `abort`", markup=False)


def promote(*, repository: Repository = None, wait: Wait = 30.0) -> None:
    """Put the version being tried into service; `rollback` returns to the one before."""
    with opened(repository) as context:
        change = candidates.promote(context.version_store, check=check_before_service)
        context.out.print(f"{change.stage}: {change.before} -> {change.after}", markup=False)
        try:
            # the candidate answers its share until the version itself does
            if change.after is not None:
                tell_when_served(context, change.stage, change.after, seconds=wait)
        finally:
            _end(context)
        warn_of_foreign_head(context)


def abort(*, repository: Repository = None) -> None:
    """End the trial: the version in service answers all requests again.

    The version on trial stays as it was.
    """
    with opened(repository) as context:
        plan = candidates.abort(context.version_store)
        now = context.version_store.newest(plan.stage)
        context.out.print(
            f"{plan.stage} {plan.version} is not tried any more; {now} serves", markup=False
        )


def _end(context: Context) -> None:
    candidates.end(context.version_store)
    try:
        # a version that Triton refused has been withdrawn, and is tried no longer either
        candidates.abort(context.version_store, reason="Triton refused it when it was promoted")
    except LifecycleError:
        return


def _wait(context: Context, plan: Plan, seconds: float) -> float | None:
    """Wait until Triton serves the candidate and the gateway, if one runs here, has the plan.

    Returns the seconds, None without a Triton that serves this folder.
    """
    settings, started = context.settings, time.monotonic()
    states = read_states(settings) if seconds else None
    if states is None or not any(name == plan.stage for name, _ in states):
        return None
    models = (
        (candidate_of(plan.stage), plan.version),
        (candidate_of(UNSCORED.name), 1),
        (candidate_of(PIPELINE.name), 1),
    )
    for model, version in models:
        state, waited = wait_for(settings, model, version, seconds=seconds)
        if state is None:
            return None
        if state.state == "UNAVAILABLE":
            candidates.abort(context.version_store, reason=state.reason, trial=plan.trial)
            raise LifecycleError(f"Triton refused {plan.stage} {plan.version}: {state.reason}")
        if state.state != "READY":
            message = f"{model} does not answer after {waited:.0f} s: {state.state}"
            raise LifecycleError(message)
    while gateway_answers(settings) and time.monotonic() - started < seconds:
        trial = read_trial(settings)
        if trial is not None and trial.trial == plan.trial:
            break
        time.sleep(_POLL_SECONDS)
    return time.monotonic() - started
