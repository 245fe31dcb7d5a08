"""Runs one case after the other on a stack under load."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from benchmarks.failures.faults import KINDS, Fault
from benchmarks.failures.jobs import follow
from benchmarks.failures.judge import Case, find_wrong, summarise, wrong_jobs
from benchmarks.failures.load import Load
from benchmarks.failures.stack import DEADLINE_SECONDS, Stack

FAULT_SECONDS: Final = DEADLINE_SECONDS + 3
"""How long a fault lasts: longer than any request that meets it."""
_WELL_WITHIN_SECONDS: Final = 90.0
_JOBS_WITHIN_SECONDS: Final = 120.0
_QUIET_SECONDS: Final = 2.5
"""All is well when every operation succeeded and none failed for this long."""


@asynccontextmanager
async def loaded(stack: Stack) -> AsyncIterator[Load]:
    """Keep callers asking until the end of the block."""
    load = Load(stack.url, deadline_seconds=DEADLINE_SECONDS)
    await load.prepare()
    work = asyncio.create_task(load.go_on())
    try:
        yield load
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def pairs(groups: Sequence[Sequence[Fault]]) -> list[tuple[Fault, Fault]]:
    """Return every two components that have the same trouble at once."""
    found = [
        (a, b)
        for first, second in itertools.combinations(groups, 2)
        for a in first
        for b in second
        if a.kind == b.kind
    ]
    return sorted(found, key=lambda pair: KINDS.index(pair[0].kind))


async def run_case(
    stack: Stack, load: Load, faults: Sequence[Fault], *, seconds: float = FAULT_SECONDS
) -> Case:
    """Let the faults begin together, end together, and wait until all is well again."""
    case = Case(tuple(fault.name for fault in faults), seconds)
    await _until_well(load, since=time.monotonic())
    first = len(load.seen)
    began = time.monotonic()
    async with AsyncExitStack() as begun:
        for fault in faults:
            await begun.enter_async_context(fault.begin(stack))
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    ended = began if all(fault.repairs_itself for fault in faults) else time.monotonic()
    case.well_after_seconds = await _until_well(load, since=ended)
    # callers that wait longer than they may shall be counted, too
    seen = [each for each in load.seen[first:] if each.at + each.seconds >= began]
    case.outcomes = summarise(seen, deadline_seconds=DEADLINE_SECONDS)
    troubled = {fault.part for fault in faults}
    case.wrong = find_wrong(seen, troubled=troubled, deadline_seconds=DEADLINE_SECONDS)
    if case.well_after_seconds is None:
        case.wrong.append(f"not well {_WELL_WITHIN_SECONDS:.0f} s after its end")
    return case


async def _until_well(load: Load, *, since: float) -> float | None:
    """Wait until nothing fails; return the time from `since` to the last failure, or None."""
    while time.monotonic() < since + _WELL_WITHIN_SECONDS:
        await asyncio.sleep(0.1)
        seen = [each for each in load.seen if each.at >= since]
        good = {each.operation for each in seen if each.good}
        failed = [each.at + each.seconds for each in seen if not each.good]
        last = max(failed, default=since)
        if good == set(load.operations) and time.monotonic() - last > _QUIET_SECONDS:
            # an operation whose first answer is late was not well before it
            firsts = (
                min(e.at + e.seconds for e in seen if e.good and e.operation == operation)
                for operation in good
            )
            slow = [first for first in firsts if first - since > _QUIET_SECONDS]
            return max([last, *slow]) - since
    return None


async def run_all(
    stack: Stack,
    load: Load,
    cases: Iterable[Sequence[Fault]],
    *,
    report: Callable[[Case], None],
) -> list[Case]:
    """Run all cases; after each, look for the faces that were acknowledged meanwhile."""
    done = []
    for faults in cases:
        case = await run_case(stack, load, faults)
        await look_for_all(load, case)
        report(case)
        done.append(case)
    return done


async def look_for_all(load: Load, case: Case) -> None:
    """Look for all that was acknowledged since the last case: faces, and each image of jobs."""
    with load.resting():
        faces, jobs = load.take_acknowledged()
        async with load.session() as client:
            case.jobs = await follow(client, jobs, patience_seconds=_JOBS_WITHIN_SECONDS)
        lost = await load.lost(faces)
    case.lost, case.acknowledged = len(lost), len(faces)
    if lost:
        case.wrong.append(f"{len(lost)} acknowledged faces are not found: {lost[:3]}")
    case.wrong += wrong_jobs(case.jobs)
