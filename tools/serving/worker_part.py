"""A worker process: works on jobs; everything else does without it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.checkout import PREFIX
from tools.serving.gateway_part import backend_environment
from tools.serving.home import Home
from tools.serving.part import last_line
from tools.serving.run_settings import RunSettings

_START_SECONDS: Final = 60.0
_NAME: Final = "worker-{number}"


@dataclass(frozen=True, slots=True)
class WorkerPart:
    """One of the workers of a home.

    worker_name: in leases and heartbeats; None for one of the process itself.
    """

    settings: RunSettings
    home: Home
    name: str
    worker_name: str | None = None
    redis_url: str | None = None
    """Of the Redis that runs beside it; None leaves the variable as it is."""
    start_timeout_seconds: float = _START_SECONDS
    grace_seconds: float = 3.0
    """It gives back what it holds within two seconds."""

    @property
    def log(self) -> Path:
        """File with all that the worker writes."""
        return self.home.log(self.name)

    def command(self) -> Sequence[str]:
        """Command line."""
        return (sys.executable, "-m", "gateway.worker")

    def environment(self) -> Mapping[str, str]:
        """Take over this process's variables, with absolute folders."""
        variables = backend_environment(self.settings, redis_url=self.redis_url)
        if self.worker_name is not None:
            variables[PREFIX + "WORKER_NAME"] = self.worker_name
        return variables

    async def is_ready(self, *, first: bool) -> bool:
        """Whether it runs: it waits by itself for what is away."""
        del first
        return True

    def last_error(self) -> str:
        """Return the last line of its log, where a start that fails says why."""
        return last_line(self.log)

    def is_drained(self, log_bytes: int) -> bool:
        """Leave it to end by itself, which it does at once."""
        del log_bytes
        return False

    def find_fault(self, pid: int) -> str:
        """A worker that runs works: its leases say so."""
        del pid
        return ""

    def prepare_restart(self, report: Callable[[str], None]) -> None:
        """Nothing of a worker's is on the disk."""

    def clean_up(self) -> None:
        """Its leases run out, or are given back by the next worker of its name."""


def worker_names(count: int) -> tuple[str, ...]:
    """Name the workers of a stack as parts."""
    return tuple(_NAME.format(number=number) for number in range(1, count + 1))
