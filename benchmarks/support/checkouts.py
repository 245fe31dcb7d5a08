"""Stacks of one or more checkouts, each with a home, ports and a model repository of its own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class StackOf:
    """The stack of a checkout; commands run with this interpreter and the checkout's code."""

    checkout: Path
    home: Path
    repository: Path
    port: int
    variables: dict[str, str]

    @property
    def url(self) -> str:
        """Address of the gateway."""
        return f"http://127.0.0.1:{self.port}"

    def aurum(self, *words: object) -> float:
        """Run a command of `aurum` to its end; returns its seconds. Raises RuntimeError."""
        command = [sys.executable, "-m", "tools", *map(str, words)]
        started = time.perf_counter()
        finished = subprocess.run(
            command, env=self.variables, cwd=self.checkout, capture_output=True, text=True
        )
        seconds = time.perf_counter() - started
        if finished.returncode:
            message = f"{' '.join(command)} failed:\n{finished.stdout}{finished.stderr}"
            raise RuntimeError(message)
        return seconds

    def leaders(self) -> dict[str, int]:
        """Process ids of the supervisor and the parts, by name."""
        state = json.loads((self.home / "run" / "state.json").read_text())
        parts = {name: int(part["pid"]) for name, part in state["parts"].items()}
        return {"supervisor": int(state["supervisor"]["pid"]), **parts}


@contextmanager
def stack_of(checkout: Path, *, triton: Path | None, **settings: str) -> Iterator[StackOf]:
    """Make a stack that does not run yet; it is stopped at the end, should it run then.

    Args:
        checkout: whose code and model repository are used; the repository is copied.
        triton: folder of unpacked servers, so that none is fetched; None: the checkout's, if any.
        settings: further variables, e.g. ``AURUM_CACHE="off"``.

    """
    with tempfile.TemporaryDirectory(prefix="aurum-bench-") as scratch:
        home, repository = Path(scratch) / "home", Path(scratch) / "model_repository"
        home.mkdir()
        shutil.copytree(checkout / "model_repository", repository)
        servers = triton or checkout / ".aurum" / "triton"
        if servers.is_dir():
            (home / "triton").symlink_to(servers.resolve())
        ports = free_ports(4)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AURUM_")}
        variables = {
            **kept,
            "PYTHONPATH": str(checkout),
            "AURUM_HOME": str(home),
            "AURUM_MODEL_REPOSITORY": str(repository),
            "AURUM_PORT": str(ports[0]),
            "AURUM_TRITON_HTTP_PORT": str(ports[1]),
            "AURUM_TRITON_GRPC_PORT": str(ports[2]),
            "AURUM_TRITON_METRICS_PORT": str(ports[3]),
            "AURUM_LOG_LEVEL": "warning",
            **settings,
        }
        stack = StackOf(checkout, home, repository, ports[0], variables)
        try:
            yield stack
        finally:
            stack.aurum("down")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
