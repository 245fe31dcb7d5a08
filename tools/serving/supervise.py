"""The supervisor's process: starts the prepared parts and keeps them running.

    python -m tools.serving.supervise LOCK PLAN

LOCK is the descriptor of the home's lock, PLAN a `RunPlan` as JSON. The process runs as long as the
stack, so it imports no library but psutil and orjson: work that needs more (settings, networks,
changes of versions) runs in short-lived processes.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tools.registry.rejection_watch import VersionWatch
from tools.registry.version_store import VersionStore
from tools.serving.errors import ServingError
from tools.serving.processes import record
from tools.serving.run_plan import RunPlan
from tools.serving.state import (
    HomeLock,
    Phase,
    ProcessRecord,
    RunState,
    clear_state,
    write_state,
)
from tools.serving.supervisor import Supervisor


async def supervise(plan: RunPlan) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP; raises ServingError if a part fails for good."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    state = RunState(plan.command, record(os.getpid()), plan.address)
    write_state(plan.home, state)

    def note(phase: Phase, running: Mapping[str, ProcessRecord]) -> None:
        write_state(plan.home, replace(state, phase=phase, parts=dict(running)))

    def say_ready() -> None:
        for line in plan.ready_lines():
            _say(line)

    parts = list(plan.parts())
    supervisor = Supervisor(
        parts, report=_say, listener=note, optional={"redis"}, late=plan.worker_names
    )
    version_store = VersionStore(plan.settings.model_repository, plan.home.root)
    watch = asyncio.create_task(
        VersionWatch(
            plan.settings,
            version_store,
            patience_seconds=plan.settings.withdraw_after_seconds,
            report=_say,
        ).run()
    )
    try:
        await supervisor.run(stop=stop, on_ready=say_ready)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
    _say("Stopped")


def main(arguments: Sequence[str]) -> int:
    """Serve; returns the exit status."""
    descriptor, text = arguments
    plan = RunPlan.from_json(text)
    lock = HomeLock.adopt(plan.home, int(descriptor))
    try:
        asyncio.run(supervise(plan))
    except ServingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        clear_state(plan.home)
        lock.release()
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
