"""The gateway process."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway.checkout import CHECKOUT, PREFIX
from tools.clients.gateway_tls import own_gateway_context
from tools.clients.http import fetch
from tools.clients.listeners import gateway_listener, triton_listeners
from tools.serving.home import Home
from tools.serving.part import last_line
from tools.serving.run_settings import RunSettings

_START_SECONDS: Final = 60.0
_LOCAL: Final = ("127.0.0.1", "0.0.0.0", "localhost", "::", "")
_ARENAS: Final = "2"
_COMMANDS_KEY: Final = PREFIX + "API_KEY"


@dataclass(frozen=True, slots=True)
class GatewayPart:
    """The gateway of one home."""

    settings: RunSettings
    home: Home
    redis_url: str | None = None
    """URL of the stack's own Redis; None keeps AURUM_REDIS_URL as it is."""
    name: str = "gateway"

    @property
    def log(self) -> Path:
        """File with the gateway's output."""
        return self.home.log(self.name)

    @property
    def start_timeout_seconds(self) -> float:
        """It waits for the stores that it needs."""
        return _START_SECONDS + self.settings.stores_start_timeout_seconds

    @property
    def grace_seconds(self) -> float:
        """Time to drain and to finish requests in flight."""
        return self.settings.drain_seconds + self.settings.request_timeout_seconds + 5.0

    def command(self) -> Sequence[str]:
        """Command line."""
        return (sys.executable, "-m", "gateway")

    def environment(self) -> Mapping[str, str]:
        """This process's variables, with absolute folders."""
        return backend_environment(self.settings, redis_url=self.redis_url)

    async def is_ready(self, *, first: bool) -> bool:
        """Whether its readiness route answers 200."""
        del first  # the first start needs no special check
        address = gateway_listener(self.settings).address
        try:
            # made anew each time: the certificate may have been renewed
            context = own_gateway_context(self.settings)
            work = partial(fetch, address, "/api/health/ready", context=context)
            status, _ = await asyncio.to_thread(work)
        except OSError:
            return False
        return status == 200

    def last_error(self) -> str:
        """Return the last line of its log, which states why a start failed."""
        return last_line(self.log)

    def is_drained(self, log_bytes: int) -> bool:
        """Always False: it ends by itself as soon as it is drained."""
        del log_bytes
        return False

    def find_fault(self, pid: int) -> str:
        """A gateway that runs works: its health route says what it lacks."""
        del pid
        return ""

    def prepare_restart(self, report: Callable[[str], None]) -> None:
        """Nothing to repair: the gateway keeps no files."""

    def clean_up(self) -> None:
        """Nothing to remove after a killed gateway."""


def backend_environment(settings: RunSettings, *, redis_url: str | None) -> dict[str, str]:
    """Variables for a gateway or a worker of a stack, with the addresses of Triton and Redis.

    redis_url: URL of the stack's own Redis; None keeps AURUM_REDIS_URL as it is.
    """
    variables = child_environment(settings)
    # glibc's eight arenas per core would mostly hold freed memory
    variables.setdefault("MALLOC_ARENA_MAX", _ARENAS)
    if settings.triton_grpc_url is None and settings.triton_host not in _LOCAL:
        # Triton's gRPC listens on this address only
        http, grpc, _ = triton_listeners(settings)
        variables[PREFIX + "TRITON_GRPC_URL"] = grpc.address
        variables.setdefault(PREFIX + "TRITON_HTTP_URL", f"http://{http.address}")
    if redis_url is not None:
        variables[PREFIX + "REDIS_URL"] = redis_url
    return variables


def child_environment(settings: RunSettings) -> dict[str, str]:
    """Variables for a child that reads settings: absolute folders, this checkout importable."""
    folders = {
        PREFIX + "HOME": str(settings.home),
        PREFIX + "MODEL_REPOSITORY": str(settings.model_repository),
    }
    if settings.model_mirror is not None:
        folders[PREFIX + "MODEL_MIRROR"] = settings.model_mirror
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    # the key is for commands that ask a gateway, not for the gateway
    variables = {name: value for name, value in os.environ.items() if name != _COMMANDS_KEY}
    return {**variables, **folders, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
