"""Components fail under load, one of each kind: callers get an answer in time, nothing is lost.

`python -m benchmarks.failures` tries every kind with every component, alone and in pairs.
"""

from collections.abc import Sequence

from benchmarks.failures import faults
from benchmarks.failures.faults import Fault
from benchmarks.failures.matrix import loaded, look_for_all, run_case
from benchmarks.failures.stack import DEADLINE_SECONDS, running

FIRST_PORT = 22_600
"""Below the ports of outgoing connections, apart from those of a run by hand."""
_MOMENT = 2.0
_LONGER_THAN_A_REQUEST = DEADLINE_SECONDS + 1


def one(group: Sequence[Fault], kind: str) -> Fault:
    return next(fault for fault in group if fault.kind == kind)


CASES = (
    ((one(faults.TRITON, "killed"),), _MOMENT),
    ((one(faults.REDIS, "garbage"), one(faults.WORKER, "killed")), _MOMENT),
    ((one(faults.VECTORS, "paused"), one(faults.OBJECTS, "slow")), _LONGER_THAN_A_REQUEST),
    ((one(faults.POSTGRESQL, "garbage"),), _MOMENT),
)


async def test_callers_are_answered_in_time_and_nothing_is_lost(tmp_path):
    # one test: the stack and its load take longer than all faults
    async with running(tmp_path, first_port=FIRST_PORT) as stack, loaded(stack) as load:
        for these, seconds in CASES:
            case = await run_case(stack, load, these, seconds=seconds)
            await look_for_all(load, case)
            assert case.wrong == [], case
            assert case.acknowledged
