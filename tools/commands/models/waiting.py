"""After a change: until Triton serves it, or says why it does not."""

from typing import Annotated

import typer

from tools.commands.models.common import Context
from tools.errors import LifecycleError
from tools.registry.changes import withdraw
from tools.registry.repository import SIDECAR_FILE
from tools.registry.triton_view import read_states, wait_for
from tools.registry.view import card_of
from triton_python_backend.contract import EMBEDDING_STAGE, SCORING

Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until Triton serves it.")]


def tell_when_served(context: Context, stage: str, version: int, *, seconds: float) -> None:
    """Say how long Triton took; without a Triton that runs, say nothing.

    A version that Triton refuses is taken out again.

    Raises:
        LifecycleError: with the reason of the refusal, or if it takes too long.
    """
    if not seconds or context.version_store.newest(stage) != version:
        return
    # a Triton on this port that has no such stage serves another repository
    states = read_states(context.settings)
    if states is None or not any(name == stage for name, _ in states):
        return
    state, waited = wait_for(context.settings, stage, version, seconds=seconds)
    if state is None:
        return
    if state.state == "READY":
        context.out.print(f"{stage} {version} answers after {waited:.1f} s", markup=False)
    elif state.state == "UNAVAILABLE":
        change = withdraw(context.version_store, stage, version, reason=state.reason)
        message = f"Triton refused {stage} {version}: {state.reason}; {change.after} serves on"
        raise LifecycleError(message)
    else:
        message = f"{stage} {version} does not answer after {waited:.0f} s: {state.state}"
        raise LifecycleError(message)


def warn_of_foreign_head(context: Context) -> None:
    """Say if the head in service was made for another space than the embedding in service."""
    cards = [
        card_of(context.version_store.placed(name, newest) / SIDECAR_FILE)
        for name in (EMBEDDING_STAGE.name, SCORING.name)
        if (newest := context.version_store.newest(name)) is not None
    ]
    if len(cards) == 2 and cards[0] and cards[1] and cards[1].space != cards[0].id:
        context.errors.print(
            f"note: the head in service rates embeddings of space {cards[1].space}; those now come "
            f"in {cards[0].id}, so scores are null until a head for it serves"
        )
