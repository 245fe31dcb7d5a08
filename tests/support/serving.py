"""Start `aurum serve` on free ports with a home of its own, and see that nothing of it is left."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from gateway.registry.calibration import CALIBRATION_FILE
from gateway.registry.reference import REFERENCE_FILE
from gateway.settings import CHECKOUT, Settings
from tests.support.command_line import PYTHONPATH, Finished, run_as_process, run_in_process
from tests.support.weights import models_folder, write_linear_head
from tools.importing.importer import Order, import_weights
from tools.importing.mirror import STARTER_HEAD, import_missing
from tools.serving.home import Home
from tools.serving.processes import SHARED_MEMORY
from tools.serving.stack import Stack
from tools.serving.state import read_state
from tools.serving.triton_install import Installation, install
from tools.serving.weights import missing_weights
from triton_python_backend.contract import ONNX_STAGES

_TIMEOUT_SECONDS = 120
_GONE_SECONDS = 60


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def shared_installation() -> Installation:
    """The wheel's server, unpacked once for all runs of the tests on this machine."""
    folder = os.environ.get("AURUM_TEST_TRITON_HOME")
    return install(
        Path(folder) if folder else CHECKOUT / ".aurum" / "triton", report=lambda _: None
    )


def copy_repository(target: Path) -> Path:
    """Copy the stages without weights and caches."""
    ignore = shutil.ignore_patterns(
        "__pycache__", "model.onnx", "model.json", REFERENCE_FILE, CALIBRATION_FILE
    )
    shutil.copytree(CHECKOUT / "model_repository", target, ignore=ignore)
    for version in target.glob("*/[0-9]*"):
        if not any(version.iterdir()) and version.parent.name != "face_pipeline":
            version.rmdir()  # a version whose weights were left out
    return target


def add_shipped_weights(repository: Path) -> bool:
    """Copy version 1 of each ONNX stage from the checkout; whether it has all of them."""
    for stage in ONNX_STAGES:
        shipped = CHECKOUT / "model_repository" / stage.name / "1"
        if not (shipped / "model.onnx").is_file():
            return False
        shutil.copytree(shipped, repository / stage.name / "1", dirs_exist_ok=True)
    return True


def add_real_weights(repository: Path, scratch: Path) -> None:
    """Import the real networks, and a linear head if no trained one is among them."""
    import_missing(repository, str(models_folder()), head=STARTER_HEAD)
    if missing_weights(repository):
        head = write_linear_head(scratch / "linear_head.onnx", width=128)
        import_weights(Order(scoring=head), repository)


def make_settings(folder: Path, repository: Path, **changes: object) -> Settings:
    """Settings with free ports and a new home below the folder that uses the shared server."""
    http, grpc, metrics, port = free_ports(4)
    home = folder / "home"
    home.mkdir()
    (home / "triton").symlink_to(shared_installation().root.parent)
    settings = Settings(
        home=home,
        model_repository=repository,
        triton_http_port=http,
        triton_grpc_port=grpc,
        triton_metrics_port=metrics,
        port=port,
        # a second of a processor at each start, which few tests need
        workers=0,
    )
    return settings.model_copy(update=changes)


def variables(settings: Settings) -> dict[str, str]:
    """Build the environment of a process with exactly these settings."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AURUM_") or name.startswith("AURUM_TEST_")
    }
    given = {
        f"AURUM_{name.upper()}": str(value)
        for name, value in settings.model_dump(exclude_defaults=True).items()
    }
    return {**clean, **given, "PYTHONPATH": PYTHONPATH}


def aurum(settings: Settings, *arguments: str) -> Finished:
    """Run a command of `aurum` to its end, in this process."""
    return run_in_process(arguments, environment=variables(settings), folder=settings.home.parent)


def aurum_process(settings: Settings, *arguments: str) -> Finished:
    """Run a command of `aurum` to its end, as a process of its own."""
    return run_as_process(arguments, environment=variables(settings), folder=settings.home.parent)


@dataclass
class Served:
    """A running `aurum serve …` and what it has said."""

    settings: Settings
    process: subprocess.Popen[str]
    lines: list[str]
    reader: threading.Thread

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def repository(self) -> Path:
        return self.settings.model_repository

    @property
    def http_address(self) -> str:
        return f"127.0.0.1:{self.settings.triton_http_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.settings.triton_grpc_port}"

    @property
    def metrics_address(self) -> str:
        return f"127.0.0.1:{self.settings.triton_metrics_port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def pid(self) -> int:
        """Process of tritonserver now."""
        return self.part_pid("triton")

    def part_pid(self, name: str) -> int:
        state = read_state(Home(self.home))
        if state is None:
            message = f"nothing runs in {self.home}"
            raise LookupError(message)
        return state.parts[name].pid

    def wait_for(self, text: str, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> str:
        """Return the first line, already said or yet to come, that contains the text."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            ended = not self.reader.is_alive()
            for line in list(self.lines):
                if text in line:
                    return line
            if ended or time.monotonic() > deadline:
                said = "\n".join(self.lines)
                message = f"{text!r} was not said; what was:\n{said}"
                raise TimeoutError(message)
            time.sleep(0.05)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Signal the supervisor and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(_TIMEOUT_SECONDS)
        self.reader.join(_TIMEOUT_SECONDS)
        return self.process.returncode


@contextmanager
def serving(settings: Settings, *arguments: str, checkout: Path = CHECKOUT) -> Iterator[Served]:
    """Run `aurum serve` of a checkout with these arguments, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tools", "serve", *arguments],
        env=variables(settings) | {"PYTHONPATH": str(checkout)},
        cwd=settings.home.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )
    lines: list[str] = []
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    served = Served(settings, process, lines, reader)
    try:
        yield served
    finally:
        served.end()


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    """Take what is said as it comes, until a part that outlives the process is ended, too."""
    for line in process.stdout or ():
        lines.append(line.rstrip("\n"))


def wait_until(condition: Callable[[], bool], *, timeout_seconds: float = 120) -> bool:
    """Whether the condition comes true in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def what_is_left(settings: Settings) -> list[str]:
    """Processes and shared memory of a home that should have ended; waits a little for them."""
    wait_until(lambda: not _leftovers(settings), timeout_seconds=_GONE_SECONDS)
    return _leftovers(settings)


def _leftovers(settings: Settings) -> list[str]:
    home = Stack(settings, "all").home
    found = [path.name for path in SHARED_MEMORY.glob(f"{home.shm_prefix}*")]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            command = " ".join(process.cmdline())
            marks = (home.shm_prefix, str(home.root))
            if any(mark in command for mark in marks) or process.environ().get("AURUM_HOME") == str(
                home.root
            ):
                found.append(f"{process.pid} {command}")
    return found
