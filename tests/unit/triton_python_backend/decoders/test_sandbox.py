import json
import subprocess
import sys

import pytest

from tests.support.command_line import PYTHONPATH

REFUSED = (
    "socket.socket()",
    "open('/etc/hostname')",
    "open('/dev/shm/new', 'w')",
    "os.fork()",
    "os.execv('/bin/true', ['true'])",
    "os.kill(os.getppid(), 0)",
    "os.unlink('/dev/shm/new')",
    "os.rename('/dev/shm/new', '/dev/shm/newer')",
    "os.pidfd_open(os.getppid())",
)
OTHERS = (
    "sum(len(bytes(1 << 20)) for _ in range(3))",
    "os.ftruncate(memory, 1 << 30)",
    "bytearray(40 << 30)",
)
PROGRAM = """
import json, os, socket, sys
from triton_python_backend.decoders import sandbox
memory = os.memfd_create("memory")
os.ftruncate(memory, 4096)
found = {}
sandbox.enter()
for each in json.loads(sys.argv[1]):
    try:
        found[each] = repr(eval(each))
    except Exception as error:
        found[each] = repr(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def after_entering():
    """What each line gave or raised, in one process that has entered."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([*REFUSED, *OTHERS])],
        env={"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_picture_needs_not_is_refused(after_entering, what):
    assert after_entering[what] == "PermissionError(1, 'Operation not permitted')"


def test_ordinary_work_goes_on_and_memory_ends(after_entering):
    assert [after_entering[each].partition("(")[0] for each in OTHERS] == [
        "3145728",
        # the memory that is shared does not grow
        "OSError",
        "MemoryError",
    ]
    assert "File too large" in after_entering[OTHERS[1]]
