"""A private redis-server for one home's cache; Aurum also works without it."""

import asyncio
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.checkout import without_secrets
from tools.serving.errors import ServingError
from tools.serving.home import Home
from tools.serving.run_settings import RunSettings

PROGRAM: Final = "redis-server"
_START_SECONDS: Final = 20.0
_ASK_SECONDS: Final = 1.0
_LONGEST_SOCKET_PATH: Final = 100
"""Longest path of a socket; Linux allows 107 bytes."""
_TAIL_BYTES: Final = 8 * 1024


@dataclass(frozen=True, slots=True)
class RedisPart:
    """Redis on a socket that only this user can open: no port, nothing on disk."""

    settings: RunSettings
    home: Home
    name: str = "redis"
    start_timeout_seconds: float = _START_SECONDS
    grace_seconds: float = 5.0

    @property
    def log(self) -> Path:
        """File with its output."""
        return self.home.log(self.name)

    @property
    def socket(self) -> Path:
        """Path below the home, or in its own folder if that path is too long for a socket."""
        inside = self.home.run / "redis.sock"
        if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(str(self.home.root).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"aurum-{os.getuid()}-{digest}" / "redis.sock"

    @property
    def url(self) -> str:
        """For `AURUM_REDIS_URL`."""
        return f"unix://{self.socket}"

    def prepare(self) -> None:
        """Create the socket's folder; raises ServingError if it belongs to another user."""
        folder = self.socket.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            message = f"{folder} belongs to another user"
            raise ServingError(message)
        self.socket.unlink(missing_ok=True)

    def command(self) -> Sequence[str]:
        """Command line. Redis may evict keys with a time to live, which are those of the cache."""
        return (
            shutil.which(PROGRAM) or PROGRAM,
            *("--port", "0"),
            *("--unixsocket", str(self.socket)),
            *("--unixsocketperm", "700"),
            *("--save", ""),
            *("--appendonly", "no"),
            *("--dir", str(self.socket.parent)),
            *("--maxmemory", f"{self.settings.redis_memory_megabytes}mb"),
            *("--maxmemory-policy", "volatile-lru"),
        )

    def environment(self) -> Mapping[str, str]:
        """This process's variables without secrets; AURUM_HOME marks the server's home."""
        return {**without_secrets(os.environ), "AURUM_HOME": str(self.home.root)}

    async def is_ready(self, *, first: bool) -> bool:
        """Whether it answers."""
        del first  # the first start needs no special check
        return await asyncio.to_thread(_answers, self.socket)

    def last_error(self) -> str:
        """Return the last line of its log."""
        with suppress(FileNotFoundError):
            text = self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return lines[-1] if lines else ""
        return ""

    def is_drained(self, log_bytes: int) -> bool:
        """Always False: it ends by itself immediately."""
        del log_bytes
        return False

    def find_fault(self, pid: int) -> str:
        """A Redis that runs works; without it answers are computed."""
        del pid
        return ""

    def prepare_restart(self, report: Callable[[str], None]) -> None:
        """Nothing to repair: Redis keeps no files and replaces its own socket."""

    def clean_up(self) -> None:
        """Remove the socket."""
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self.home.run:
            with suppress(OSError):
                self.socket.parent.rmdir()


def _answers(path: Path) -> bool:
    """Whether a Redis answers PING on this socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ASK_SECONDS)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def is_installed() -> bool:
    """Whether redis-server is installed."""
    return shutil.which(PROGRAM) is not None
