"""A gateway that is cut off at a chosen moment: `python -m tests.support.dying_gateway MOMENT`.

It is killed when a transaction has succeeded, before anything else learns of it; or it is killed or
paused before the transaction begins.
"""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from gateway.records import presence
from gateway.records.faces import FaceRecords
from gateway.records.jobs import JobRecords
from gateway.settings import CHECKOUT

LEASE_SECONDS: Final = 1.0
"""Tests need not wait for it as long as others."""


class Moment(NamedTuple):
    """When a process gets which signal."""

    owner: type
    method: str
    when: Literal["before", "after"]
    signal: int


MOMENTS: Final = {
    "job": Moment(JobRecords, "submit", "after", signal.SIGKILL),
    "faces": Moment(FaceRecords, "commit", "after", signal.SIGKILL),
    "before job": Moment(JobRecords, "submit", "before", signal.SIGKILL),
    "before faces": Moment(FaceRecords, "commit", "before", signal.SIGKILL),
    "pause": Moment(FaceRecords, "commit", "before", signal.SIGSTOP),
}


def cut_off(method: Callable[..., Awaitable[Any]], moment: Moment) -> Callable[..., Awaitable[Any]]:
    """Signal the own process at a call of a method, the first time."""
    left = [moment]

    @functools.wraps(method)
    async def dying(*given: Any, **more: Any) -> Any:
        now = left.pop() if left else None
        if now is not None and now.when == "before":
            os.kill(os.getpid(), now.signal)
        returned = await method(*given, **more)
        if now is not None and now.when == "after":
            os.kill(os.getpid(), now.signal)
        return returned

    return dying


@asynccontextmanager
async def dying_gateway(
    moment: str, home: Path, database: str, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run such a gateway, without Triton and workers; it is killed at the end of the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AURUM_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.dying_gateway", moment),
        cwd=CHECKOUT,
        env=kept
        | {
            "AURUM_HOME": str(home),
            "AURUM_PORT": str(port),
            "AURUM_DATABASE_URL": database,
            "AURUM_PORTRAIT_INTERVAL_SECONDS": "0",
            "AURUM_WORKERS": "0",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while b"listening" not in (line := await process.stderr.readline()):
                assert line, "it ended before it listened"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    from gateway.__main__ import main

    presence.LEASE_SECONDS = LEASE_SECONDS  # type: ignore[misc]
    chosen = MOMENTS[sys.argv[1]]
    method = getattr(chosen.owner, chosen.method)
    setattr(chosen.owner, chosen.method, cut_off(method, chosen))
    sys.exit(main())
