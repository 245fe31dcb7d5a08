"""Start a separate stack for a benchmark, with its own home, ports and weights."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
DETECTOR: Final = "det_500m.onnx"
EMBEDDER: Final = "mobilefacenet_arcface_128.onnx"
_HEAD: Final = CHECKOUT / "tools" / "importing" / "starter_head.onnx"


@dataclass(frozen=True, slots=True)
class Served:
    """Addresses and folders of a running stack."""

    url: str
    grpc: str
    home: Path
    repository: Path

    @property
    def gateway_pid(self) -> int:
        """Process id of the gateway; raises RuntimeError if there is none."""
        import psutil

        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if words[1:3] == ["-m", "gateway"] and _home_of(process) == str(self.home):
                return int(process.pid)
        raise RuntimeError("the gateway's process was not found")


def _home_of(process: object) -> str | None:
    import psutil

    try:
        home: str | None = process.environ().get("AURUM_HOME")  # type: ignore[attr-defined]
    except psutil.Error:
        return None
    return home


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stack that is ready to be started: its folders, ports and environment."""

    served: Served
    environment: Mapping[str, str]

    @property
    def up_command(self) -> list[str]:
        """What `make up` runs, without the installation before it."""
        return _command("up")

    def up(self) -> None:
        """Start the stack; returns when it is ready."""
        _aurum("up", env=self.environment)

    def down(self) -> None:
        """Stop the stack."""
        _aurum("down", env=self.environment)


@contextmanager
def served(models: Path, *, lighter: Sequence[object] = (), **settings: str) -> Iterator[Served]:
    """Start a stack with the networks of folder `models`; stop it at the end.

    lighter: arguments of a second `aurum models import`, which quantises them. settings: further
    variables, e.g. ``AURUM_CACHE="off"``.
    """
    with prepared(models, lighter=lighter, **settings) as stack:
        stack.up()
        try:
            yield stack.served
        finally:
            stack.down()


@contextmanager
def prepared(
    models: Path, *, lighter: Sequence[object] = (), **settings: str
) -> Iterator[Prepared]:
    """Import the networks for a stack as `served` does; the caller starts and stops it."""
    with tempfile.TemporaryDirectory(prefix="aurum-bench-") as scratch:
        home, repository = Path(scratch) / "home", Path(scratch) / "model_repository"
        shutil.copytree(CHECKOUT / "model_repository", repository)
        ports = free_ports(4)
        environment = {
            **os.environ,
            "AURUM_HOME": str(home),
            "AURUM_MODEL_REPOSITORY": str(repository),
            "AURUM_PORT": str(ports[0]),
            "AURUM_TRITON_HTTP_PORT": str(ports[1]),
            "AURUM_TRITON_GRPC_PORT": str(ports[2]),
            "AURUM_TRITON_METRICS_PORT": str(ports[3]),
            **settings,
        }
        weights = ["--detection", models / DETECTOR, "--embedding", models / EMBEDDER]
        _aurum("models", "import", *weights, "--scoring", _HEAD, "--wait", 0, env=environment)
        if lighter:
            _aurum("models", "import", *lighter, "--wait", 0, env=environment)
        url = f"http://127.0.0.1:{ports[0]}"
        yield Prepared(Served(url, f"127.0.0.1:{ports[2]}", home, repository), environment)


def _command(*words: object) -> list[str]:
    return [sys.executable, "-m", "tools", *map(str, words)]


def _aurum(*words: object, env: Mapping[str, str]) -> None:
    command = _command(*words)
    finished = subprocess.run(
        command, env=dict(env), cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        message = f"{' '.join(command)} failed:\n{finished.stdout}{finished.stderr}"
        raise RuntimeError(message)


def free_ports(count: int) -> list[int]:
    """Ports of this machine on which nothing listens now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
