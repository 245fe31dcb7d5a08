"""Whether the processes of Triton's Python stages live.

    python3 -m triton_python_backend.liveness URL [--end]

Triton does not notice that one of them was killed, by the kernel when memory runs out for example:
the stage stays READY, and each request to it waits until its deadline. A killed process stays a
zombie, since Triton waits for a stage's process only when it unloads the stage.

The command is a health check for containers: it ends with 1 if URL does not answer 200 or a stage
is lost. `--end` then ends the server too, for engines that restart only what has ended. It looks at
all servers that it sees, so it is for containers.
"""

import argparse
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_STUB: Final = b"triton_python_b"
"""Name of a stage's process, of which the kernel keeps 15 bytes."""
_SERVER: Final = b"tritonserver"
_BETWEEN_LOOKS_SECONDS: Final = 1.0
"""Longer than Triton needs to wait for a process that it ended itself."""
_ANSWER_SECONDS: Final = 4.0


def lost_stages(server: int, processes: Path = Path("/proc")) -> frozenset[int]:
    """Return the process ids of stages of this server that were killed.

    A stage that is being unloaded may be among them for a moment: what is found twice, a second
    apart, is lost.
    """
    return frozenset(
        pid
        for pid, name, state, parent in _processes(processes)
        if parent == server and name == _STUB and state == b"Z"
    )


def _processes(processes: Path) -> Iterator[tuple[int, bytes, bytes, int]]:
    """Yield number, name, state and parent of each process."""
    for entry in processes.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_bytes()
        except OSError:
            # it has ended meanwhile
            continue
        # the name is in parentheses and may contain some
        _, _, rest = text.partition(b"(")
        name, _, fields = rest.rpartition(b") ")
        state, parent = fields.split()[:2]
        yield int(entry.name), name, state, int(parent)


def _servers() -> list[int]:
    """Return the servers of this container."""
    return [pid for pid, name, _, _ in _processes(Path("/proc")) if name == _SERVER]


def _lost_twice(servers: Sequence[int]) -> list[int]:
    """Return the servers of which a stage is lost."""
    first = {server: lost_stages(server) for server in servers}
    if not any(first.values()):
        return []
    time.sleep(_BETWEEN_LOOKS_SECONDS)
    return [server for server, lost in first.items() if lost & lost_stages(server)]


def main(arguments: Sequence[str]) -> int:
    """Check once; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m triton_python_backend.liveness")
    parser.add_argument("url", help="is answered with 200 by a server that works")
    parser.add_argument("--end", action="store_true", help="end servers that have lost a stage")
    options = parser.parse_args(arguments)
    if lost := _lost_twice(_servers()):
        print("the process of a Python stage was killed", file=sys.stderr)
        if options.end:
            for server in lost:
                os.kill(server, signal.SIGTERM)
        return 1
    try:
        # the URL is written by the operator
        with urllib.request.urlopen(options.url, timeout=_ANSWER_SECONDS):  # noqa: S310
            return 0
    except (OSError, urllib.error.URLError) as error:
        print(f"{options.url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
