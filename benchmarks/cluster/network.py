"""Hosts of one machine: network namespaces on a bridge, with links that can be cut and spoiled."""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final

from benchmarks.support.served import CHECKOUT

BRIDGE: Final = "aurum0"
SUBNET: Final = "10.77.0"
OUTSIDE: Final = f"{SUBNET}.254"
"""Address of the run itself, which looks whether programs answer."""
_IP: Final = shutil.which("ip") or "/usr/sbin/ip"
_SIOCETHTOOL: Final = 0x8946
_OFF: Final = {"checksums": 0x17, "tso": 0x1F, "gso": 0x24}
"""Orders of `ethtool` that set an offload."""


def isolate(arguments: Sequence[str]) -> None:
    """Replace this process by itself in network, mount and process namespaces of its own.

    Nothing that it makes there is seen outside, and its processes end with it, however it ends.
    Raises PermissionError without root.
    """
    if os.geteuid() != 0:
        raise PermissionError("network namespaces need root")
    here = [sys.executable, "-m", "benchmarks.cluster", "--isolated", *arguments]
    # the shell stays, as the parent of processes whose own parents were killed
    script = 'mkdir -p /run/netns && mount -t tmpfs none /run/netns && "$@"; exit $?'
    spaces = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    command = ["unshare", *spaces, "--", "sh", "-c", script, "sh", *here]
    os.execvp(command[0], command)  # noqa: S606 - a fixed program


def ip(*words: str) -> None:
    """Run `ip`; raises RuntimeError with what it says."""
    done = subprocess.run([_IP, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"ip {' '.join(words)}: {done.stderr.strip()}"
        raise RuntimeError(message)


def make_bridge() -> None:
    """Make the bridge to which all hosts are linked."""
    ip("link", "set", "lo", "up")
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("addr", "add", f"{OUTSIDE}/24", "dev", BRIDGE)
    ip("link", "set", BRIDGE, "up")
    _without_offloads(BRIDGE)


class Host:
    """A network namespace with an address, linked to the bridge."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"{SUBNET}.{number}"
        self._port = f"p{number}"
        """The bridge's end of its link."""
        ip("netns", "add", name)
        ip("link", "add", self._port, "type", "veth", "peer", "name", f"h{number}")
        # a spoiled link carries whole frames with checksums
        _without_offloads(self._port)
        _without_offloads(f"h{number}")
        ip("link", "set", f"h{number}", "netns", name, "name", "eth0")
        ip("link", "set", self._port, "master", BRIDGE, "up")
        ip("-n", name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")

    def command(self, *words: str, user: int | None = None) -> list[str]:
        """Return the command line that runs words within the host."""
        entered = ["nsenter", f"--net=/run/netns/{self.name}"]
        if user is not None:
            entered += [f"--setuid={user}", f"--setgid={user}"]
        return [*entered, "--", *words]

    def kill(self) -> None:
        """End every process of the host with SIGKILL, as a power cut would."""
        found = subprocess.run(
            [_IP, "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        for pid in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def cut(self) -> AsyncIterator[None]:
        """Cut its link until the end of the block; connections stay open at both ends."""
        ip("link", "set", self._port, "down")
        try:
            yield
        finally:
            ip("link", "set", self._port, "up")

    @contextlib.asynccontextmanager
    async def spoiled(self, *, delay_seconds: float, loss: float) -> AsyncIterator[None]:
        """Delay each frame of its link and lose some, in both directions, until the end."""
        inner, outer = f"{self._port}a", f"{self._port}b"
        ip("link", "add", inner, "type", "veth", "peer", "name", outer)
        _without_offloads(inner)
        _without_offloads(outer)
        ip("link", "set", inner, "up")
        ip("link", "set", outer, "master", BRIDGE, "up")
        ip("link", "set", self._port, "nomaster")
        words = ("-m", "benchmarks.cluster.wire", self._port, inner)
        numbers = (str(delay_seconds), str(loss))
        wire = await asyncio.create_subprocess_exec(sys.executable, *words, *numbers, cwd=CHECKOUT)
        try:
            yield
            if wire.returncode is not None:
                raise RuntimeError("the program that carries the spoiled link ended")
        finally:
            if wire.returncode is None:
                wire.kill()
            await wire.wait()
            ip("link", "set", self._port, "master", BRIDGE)
            ip("link", "del", inner)


def _without_offloads(interface: str) -> None:
    """Have the kernel send whole checksums, and frames no longer than the link takes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for order in _OFF.values():
            value = bytearray(struct.pack("II", order, 0))
            holder = (ctypes.c_char * len(value)).from_buffer(value)
            request = struct.pack("16sP", interface.encode(), ctypes.addressof(holder))
            fcntl.ioctl(handle, _SIOCETHTOOL, request)
