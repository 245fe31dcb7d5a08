"""The `aurum` command line, called in this process: importing it anew costs seconds each time."""

import json
import os
import socketserver
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Thread
from typing import NoReturn
from unittest.mock import patch

from typer.testing import CliRunner

from gateway.settings import CHECKOUT

PYTHONPATH = f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'clients/python/src'}"
"""Of a process that runs the code of this checkout, whichever one is installed."""
_TIMEOUT_SECONDS = 120
_one_at_a_time = Lock()
"""Environment, folder and standard streams are those of the whole process."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


def run_in_process(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    stdin: bytes = b"",
) -> Finished:
    """Run `aurum` with exactly these variables in a folder; raise an exception that it lets out.

    One command at a time; threads that run meanwhile see its environment and its streams. A command
    that would become another program, as a successful `aurum serve`, raises RuntimeError.
    """
    # the command line loads nearly everything: only tests that call it pay
    from tools.__main__ import app

    with (
        _one_at_a_time,
        _exactly(environment),
        chdir(folder),
        patch.multiple(os, execv=_refuse, execve=_refuse, execvp=_refuse, execvpe=_refuse),
    ):
        result = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="aurum")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Finished(result.exit_code, result.stdout, result.stderr)


def _refuse(file: object, *_: object) -> NoReturn:
    message = f"the command would become {file}, and this process with it: call `aurum_process`"
    raise RuntimeError(message)


def run_as_process(
    arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path
) -> Finished:
    """Run `aurum` as a user does: for tests of the process itself."""
    done = subprocess.run(
        [sys.executable, "-m", "tools", *arguments],
        env={**environment, "PYTHONPATH": PYTHONPATH},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@contextmanager
def _exactly(environment: Mapping[str, str]) -> Iterator[None]:
    """Give this process other variables for a while."""
    before = dict(os.environ)
    try:
        _become(environment)
        yield
    finally:
        _become(before)


def _become(environment: Mapping[str, str]) -> None:
    """Change what differs only: a thread that reads a variable meanwhile finds it."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


@contextmanager
def forwarded_command(folder: Path) -> Iterator[Path]:
    """Make a program `aurum` in a folder that hands what a shell calls it with to this process.

    It answers with the variables and in the folder of the shell, as the command itself would.
    """
    program = folder / "aurum"
    # a socket's path may have 107 bytes only
    with TemporaryDirectory(prefix="aurum-cli-") as place:
        path = str(Path(place) / "socket")
        program.write_text(f"#!{sys.executable} -IS\nSOCKET = {path!r}\n{_FORWARDER}")
        program.chmod(0o755)
        with socketserver.UnixStreamServer(path, _Forwarded) as server:
            thread = Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield program
            finally:
                server.shutdown()
                thread.join()


_FORWARDER = """\
import json, os, socket, sys

with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(SOCKET)
    asked = {"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}
    connection.sendall(json.dumps(asked).encode() + b"\\n")
    answer = json.loads(connection.makefile("rb").readline())
sys.stdout.write(answer["stdout"])
sys.stderr.write(answer["stderr"])
sys.exit(answer["returncode"])
"""


class _Forwarded(socketserver.StreamRequestHandler):
    """One call of the program."""

    def handle(self) -> None:
        asked = json.loads(self.rfile.readline())
        try:
            done = run_in_process(
                asked["arguments"],
                environment=asked["environment"],
                folder=Path(asked["folder"]),
            )
        except BaseException:  # noqa: BLE001 - the shell sees it as it would see a traceback
            done = Finished(1, "", traceback.format_exc())
        self.wfile.write(json.dumps(asdict(done)).encode() + b"\n")
