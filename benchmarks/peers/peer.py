"""What all peers have in common: a checkout, an environment of their own, one process group."""

import hashlib
import os
import re
import signal
import subprocess
import time
import tomllib
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, ClassVar, Final

import psutil

from benchmarks.peers.service import Networks, Service
from benchmarks.support.processes import tree

_GRACE_SECONDS: Final = 15.0


class Peer(Service):
    """A service of others, run from a checkout of its repository.

    source: the checkout. folder: where its environment, networks and data lie.
    """

    checkout: ClassVar[str]
    """Name of the checkout's folder."""
    repository: ClassVar[str]
    marker: ClassVar[str]
    """A file or folder of the checkout without which it is none."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source.resolve()
        self.folder = folder.resolve()

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.folder / "venv" / "bin" / "python"

    @abstractmethod
    def packages(self) -> list[list[str]]:
        """What `pip install` gets, one list of words a call."""

    @abstractmethod
    def place(self, networks: Networks) -> None:
        """Put the networks where it looks for them, below `folder`."""

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Words of the command that serves on 127.0.0.1."""

    @abstractmethod
    def environment(self, port: int) -> Mapping[str, str]:
        """Variables that it reads."""

    @abstractmethod
    def version(self) -> str:
        """Version as its sources say it."""

    def launch(self, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it in a session of its own, its environment first on `PATH`."""
        around = {
            **os.environ,
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPYCACHEPREFIX": str(self.folder / "pycache"),  # the checkout stays as it is
        }
        return subprocess.Popen(
            self.command(port),
            cwd=self.folder,
            env={**around, **self.environment(port)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def processes(self, launched: subprocess.Popen[bytes]) -> list[int]:
        """The launched process and its descendants."""
        return tree(launched.pid)

    def stop(self, launched: subprocess.Popen[bytes]) -> None:
        """SIGTERM to the whole group, SIGKILL to what is left after a while."""
        pids = tree(launched.pid)
        deadline = time.monotonic() + _GRACE_SECONDS
        _signal(launched, signal.SIGTERM)
        while time.monotonic() < deadline and any(map(psutil.pid_exists, pids)):
            launched.poll()
            time.sleep(0.01)
        _signal(launched, signal.SIGKILL)
        launched.wait()

    def origin(self) -> Mapping[str, str]:
        """Version, commit of the checkout, and a digest of its Python files where there is none."""
        return {"version": self.version(), "built from": f"{self.repository}, {self._commit()}"}

    def _commit(self) -> str:
        command = ["git", "-C", str(self.source), "rev-parse", "--show-toplevel", "HEAD"]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        found = finished.stdout.split()
        # a plain folder may lie within another project's checkout
        if len(found) == 2 and Path(found[0]).resolve() == self.source:
            return f"commit {found[1][:12]}"
        digest = hashlib.sha256()
        for file in sorted(self.source.rglob("*.py")):
            digest.update(str(file.relative_to(self.source)).encode() + b"\0" + file.read_bytes())
        note = self.source / "ORIGIN"
        origin = f"{note.read_text().strip()}; " if note.is_file() else ""
        return f"{origin}a copy without Git, SHA-256 of its Python files {digest.hexdigest()[:12]}"


def _signal(launched: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(launched.pid, number)


def project_version(pyproject: Path) -> str:
    """The version in a `pyproject.toml`; "unknown" without one."""
    try:
        version = tomllib.loads(pyproject.read_text())["project"]["version"]
    except (FileNotFoundError, KeyError):
        return "unknown"
    return str(version)


def assigned(file: Path, pattern: str) -> str:
    """The first group of a pattern in a source file; "unknown" where it is not there."""
    found = re.search(pattern, file.read_text()) if file.is_file() else None
    return found.group(1) if found else "unknown"


def put(network: Path, at: Path) -> None:
    """Let a network lie at another place, as a link."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    at.symlink_to(network.resolve())
