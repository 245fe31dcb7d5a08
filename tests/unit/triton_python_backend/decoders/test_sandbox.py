import subprocess
import sys

import pytest

from tests.support.command_line import PYTHONPATH

ENTER = """
import os, signal, socket
from triton_python_backend.decoders import sandbox
memory = os.memfd_create("memory")
os.ftruncate(memory, 4096)
sandbox.enter()
"""


def after_entering(what):
    """Run a line in a process that has entered, and return what it raised."""
    code = f"{ENTER}\ntry:\n    {what}\nexcept BaseException as error:\n    print(repr(error))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_ordinary_work_goes_on():
    assert after_entering("print(sum(len(bytes(1 << 20)) for _ in range(3)))") == "3145728"


@pytest.mark.parametrize(
    "what",
    [
        "socket.socket()",
        "open('/etc/hostname')",
        "open('/tmp/new', 'w')",
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.kill(os.getppid(), signal.SIGTERM)",
        "os.unlink('/tmp/new')",
        "os.rename('/tmp/new', '/tmp/newer')",
        "os.pidfd_open(os.getppid())",
    ],
)
def test_what_a_picture_needs_not_is_refused(what):
    assert after_entering(what) == "PermissionError(1, 'Operation not permitted')"


def test_shared_memory_does_not_grow():
    assert "File too large" in after_entering("os.ftruncate(memory, 1 << 30)")


def test_memory_ends():
    assert "MemoryError" in after_entering("bytearray(40 << 30)")
