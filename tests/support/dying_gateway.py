"""A gateway that a test kills at a chosen moment: `python -m tests.support.dying_gateway MOMENT`.

It is killed when a transaction has succeeded, before anything else learns of it.
"""

import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.__main__ import main
from gateway.records.faces import FaceRecords
from gateway.records.jobs import JobRecords

MOMENTS: Final[dict[str, tuple[type, str]]] = {
    "job": (JobRecords, "submit"),
    "faces": (FaceRecords, "commit"),
}


def die_after(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Kill the process, as the system does without memory, when a method returns."""

    @functools.wraps(method)
    async def dying(*given: Any, **more: Any) -> None:
        await method(*given, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    return dying


if __name__ == "__main__":
    owner, name = MOMENTS[sys.argv[1]]
    setattr(owner, name, die_after(getattr(owner, name)))
    sys.exit(main())
