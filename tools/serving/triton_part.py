"""The tritonserver process: command line, readiness by stage, errors as one line."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.clients.listeners import triton_listeners
from tools.errors import LifecycleError
from tools.registry.remedies import put_right
from tools.registry.triton_status import read_index
from tools.registry.version_store import VersionStore
from tools.serving import compiled_backend, triton_environment
from tools.serving.errors import ServingError
from tools.serving.home import Home
from tools.serving.processes import remove_shared_memory
from tools.serving.run_settings import RunSettings
from tools.serving.triton_install import Installation
from triton_python_backend.contract import STAGES
from triton_python_backend.liveness import lost_stages

STAGE_NAMES: Final = tuple(stage.name for stage in STAGES)
_EXIT_SECONDS: Final = 10
_DRAINED: Final = b"All models are stopped"
_TAIL_BYTES: Final = 64 * 1024
_ERROR_LINE: Final = re.compile(r'^E\d{4} [\d:.]+ \d+ \S+\] "?(?P<text>.*?)"?$')
_CALM_LINE: Final = re.compile(r"^[IW]\d{4} |^[+|]")
_POLL_FAILED: Final = "Poll failed for model directory '{}': "
# lines of every server without a GPU, and lines that only summarise earlier errors
_NO_CAUSE: Final = (
    "CudaDriverHelper",
    "CUDA driver",
    "failed to load all models",
    "NVML",
    "Poll failed for",
)
_STATUS_WORD: Final = re.compile(r"^(Internal|Invalid argument|Not found|Unavailable|Unknown): ")


@dataclass(frozen=True, slots=True)
class TritonPart:
    """The Triton server of one home."""

    settings: RunSettings
    home: Home
    installation: Installation
    stages: tuple[str, ...] = STAGE_NAMES
    name: str = "triton"

    @property
    def log(self) -> Path:
        """File with the output of the server and its stages."""
        return self.home.log(self.name)

    @property
    def start_timeout_seconds(self) -> float:
        """Longest time to load all stages."""
        return self.settings.triton_start_timeout_seconds

    @property
    def grace_seconds(self) -> float:
        """Time to finish requests in flight and to end the stubs."""
        return _EXIT_SECONDS + 5.0

    def prepare(self, report: Callable[[str], None] = lambda _: None) -> None:
        """Assemble folders and check libraries; raises ServingError naming what is missing."""
        compiled = compiled_backend.provide(
            self.installation.compiled, self.settings.onnx_backend, report=report
        )
        try:
            backends = triton_environment.assemble_backends(
                self.home,
                self.installation,
                onnx_backend=compiled or triton_environment.ONNX_BACKEND,
            )
            triton_environment.assemble_interpreter(self.home)
        except OSError as error:
            message = f"Triton's folders below {self.home.root} cannot be written: {error}"
            raise ServingError(message) from error
        triton_environment.check(self.installation, backends, self.environment())

    def command(self) -> Sequence[str]:
        """Command line of the server."""
        http, grpc, metrics = triton_listeners(self.settings)
        return (
            str(self.installation.binary),
            f"--model-repository={self.settings.model_repository}",
            f"--backend-directory={self.home.backends}",
            f"--cache-directory={self.installation.caches}",
            "--model-control-mode=poll",
            "--repository-poll-secs=1",
            "--disable-auto-complete-config",
            # the supervisor decides: a failed stage is fatal at the first start only
            "--exit-on-error=false",
            f"--exit-timeout-secs={_EXIT_SECONDS}",
            f"--http-address={http.host}",
            f"--http-port={http.port}",
            f"--grpc-address={grpc.host}",
            f"--grpc-port={grpc.port}",
            f"--metrics-address={metrics.host}",
            f"--metrics-port={metrics.port}",
            "--allow-gpu-metrics=false",
            f"--backend-config=python,shm-region-prefix-name={self.home.shm_prefix}",
            f"--backend-config=onnxruntime,shm-region-prefix-name={self.home.shm_prefix}",
        )

    def environment(self) -> Mapping[str, str]:
        """Variables for the server and its stages."""
        pixels = int(self.settings.max_image_megapixels * 1_000_000)
        return triton_environment.environment(self.home, self.installation, max_image_pixels=pixels)

    async def is_ready(self, *, first: bool) -> bool:
        """Whether every stage has a ready version."""
        index = await asyncio.to_thread(read_index, self.settings)
        if index is None:
            return False
        for stage in self.stages:
            entries = [entry for entry in index if entry["name"] == stage]
            states = {entry.get("state", "") for entry in entries}
            if "READY" in states:
                continue
            if first and not states & {"LOADING", "UNLOADING"}:
                raise ServingError(self._why_not_loaded(stage, entries))
            return False
        return True

    def last_error(self) -> str:
        """Return the last error in the log with a cause, else the last line."""
        lines = [line for line in self._tail().splitlines() if line.strip()]
        for line in reversed(lines):
            match = _ERROR_LINE.match(line)
            if match and not any(noise in match["text"] for noise in _NO_CAUSE):
                return _first_line(match["text"])
        said_something_else = bool(lines) and not _CALM_LINE.match(lines[-1])
        return _first_line(lines[-1]) if said_something_else else ""

    def is_drained(self, log_bytes: int) -> bool:
        """Whether its log says that all requests are finished.

        Triton then unloads its models and checks once a second whether that is done.
        """
        try:
            with self.log.open("rb") as log:
                log.seek(log_bytes)
                return _DRAINED in log.read()
        except FileNotFoundError:
            return False

    def find_fault(self, pid: int) -> str:
        """Look for stages whose processes were killed, which Triton does not notice."""
        lost = lost_stages(pid)
        return f"the process of a Python stage ({min(lost)}) was killed" if lost else ""

    def prepare_restart(self, report: Callable[[str], None]) -> None:
        """Withdraw versions that were added while Triton ran and that would prevent its start.

        The version on trial may have crashed Triton, so its trial ends.
        """
        version_store = VersionStore(self.settings.model_repository, self.home.root)
        try:
            reason = "Triton ended during its trial"
            put_right(version_store, "before-start", reason, report=report)
        except LifecycleError as error:
            report(f"versions were not checked: {error}")

    def clean_up(self) -> None:
        """Remove the shared memory of killed stubs."""
        remove_shared_memory(self.home)

    def _why_not_loaded(self, stage: str, entries: list[dict[str, Any]]) -> str:
        reasons = [entry["reason"] for entry in entries if entry.get("reason")]
        reason = _first_line(reasons[-1]) if reasons else self._poll_failure(stage)
        if not reason:
            reason = f"no such stage in {self.settings.model_repository}"
        return f"Triton could not load {stage}: {reason}; log: {self.log}"

    def _poll_failure(self, stage: str) -> str:
        prefix = _POLL_FAILED.format(stage)
        for line in reversed(self._tail().splitlines()):
            if prefix in line:
                return line.split(prefix, 1)[1].rstrip('"')
        return ""

    def _tail(self) -> str:
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _TAIL_BYTES))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def _first_line(text: str) -> str:
    line = text.replace("\\n", "\n").strip().splitlines()[0] if text.strip() else ""
    return _STATUS_WORD.sub("", line).strip()
