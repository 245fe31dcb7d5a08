"""A private redis-server for the cache of one home; Aurum works without it, too."""

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
"""Of 107 bytes that Linux allows."""
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
        """File with all that it writes."""
        return self.home.log(self.name)

    @property
    def socket(self) -> Path:
        """Below the home, or where that is too deep for a socket, in a folder of its own."""
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
        """Make the socket's folder; raise ServingError if another user holds it."""
        folder = self.socket.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            message = f"{folder} belongs to another user"
            raise ServingError(message)
        self.socket.unlink(missing_ok=True)

    def command(self) -> Sequence[str]:
        """Command line. What may go is what has a time to live: all of the cache, and only that."""
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
        """Take over this process's variables; the home tells whose server it is."""
        return {**without_secrets(os.environ), "AURUM_HOME": str(self.home.root)}

    async def is_ready(self, *, first: bool) -> bool:
        """Whether it answers."""
        del first  # it either answers in time or ends
        return await asyncio.to_thread(_answers, self.socket)

    def last_error(self) -> str:
        """Return the last line of its log."""
        with suppress(FileNotFoundError):
            text = self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            return lines[-1] if lines else ""
        return ""

    def is_drained(self, log_bytes: int) -> bool:
        """Leave it to end by itself, which it does at once."""
        del log_bytes
        return False

    def prepare_restart(self, report: Callable[[str], None]) -> None:
        """Nothing of Redis's is on the disk but its socket, which it replaces itself."""

    def clean_up(self) -> None:
        """Remove the socket."""
        self.socket.unlink(missing_ok=True)
        if self.socket.parent != self.home.run:
            with suppress(OSError):
                self.socket.parent.rmdir()


def _answers(path: Path) -> bool:
    """Whether a Redis behind this socket answers PING."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_ASK_SECONDS)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def is_installed() -> bool:
    """Whether there is a server to start."""
    return shutil.which(PROGRAM) is not None
