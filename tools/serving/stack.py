"""Serve one home: checks, folders and weights first, then the supervisor takes over."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from gateway.errors import ConfigurationError
from gateway.security.exposure import check_exposure
from gateway.settings import Settings
from gateway.tls_files import check_gateway_files
from tools.clients.listeners import gateway_listeners, triton_listeners
from tools.serving import redis_part, triton_install
from tools.serving.errors import ServingError
from tools.serving.gateway_part import child_environment
from tools.serving.home import Home, rotate_log
from tools.serving.ports import check_free
from tools.serving.processes import clear_leftovers, record
from tools.serving.proven import are_proven, note_proven
from tools.serving.run_plan import Extent, RunPlan, address_of
from tools.serving.run_settings import RunSettings
from tools.serving.state import HomeLock, RunState, clear_state, read_state, write_state
from tools.serving.triton_part import TritonPart

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """The stack of one home; `settings` has absolute folders."""

    settings: Settings
    extent: Extent

    @property
    def home(self) -> Home:
        """Where its state lies."""
        return Home(self.settings.home)

    @property
    def command(self) -> str:
        """The subcommand that serves it."""
        return "serve" if self.extent == "all" else "serve triton"

    @property
    def with_triton(self) -> bool:
        """Whether Triton runs here, not elsewhere."""
        return self.extent == "triton" or self.settings.triton_grpc_url is None

    def environment(self) -> dict[str, str]:
        """Variables for a process of this stack."""
        return child_environment(RunSettings.of(self.settings))

    def serve(self, *, report: Report) -> NoReturn:
        """Serve until SIGINT, SIGTERM or SIGHUP: this process becomes the supervisor.

        Raises ServingError (one line) if that is impossible, AlreadyRunningError if the home is
        already served. In either case no process and no shared memory is left.
        """
        lock = HomeLock(self.home)
        lock.acquire()
        try:
            command = self.prepare(lock, report=report)
            sys.stdout.flush()
            os.execve(command[0], command, self.environment())  # noqa: S606 - no shell is wanted
        except BaseException:
            clear_state(self.home)
            raise
        finally:
            lock.release()

    def prepare(self, lock: HomeLock, *, report: Report) -> list[str]:
        """Check and assemble everything to serve; the caller holds the lock.

        Returns:
            The supervisor's command, for a process that inherits the lock.

        Raises:
            ServingError: one line with the reason why it cannot be served.

        """
        if clear_leftovers(self.home, read_state(self.home)):
            report("Ended the processes of a crashed run")
        try:
            check_exposure(self.settings)
            if self.extent == "all":
                check_gateway_files(self.settings)
        except ConfigurationError as error:
            raise ServingError(str(error)) from error
        settings = RunSettings.of(self.settings)
        address = address_of(settings, self.extent)
        write_state(self.home, RunState(self.command, record(os.getpid()), address))
        listeners = [*triton_listeners(settings)] if self.with_triton else []
        if self.extent == "all":
            listeners += gateway_listeners(settings)
        check_free(listeners)
        server = None
        if self.with_triton:
            self._check_weights(report)
            folder = self.settings.triton_folder or self.home.triton
            installation = triton_install.install(folder, report=report)
            TritonPart(settings, self.home, installation).prepare(report)
            server = installation.root
        with_redis = self.extent == "all" and self._prepare_redis(settings, report)
        plan = RunPlan(settings, self.extent, server, with_redis)
        for part in plan.parts():
            rotate_log(part.log)
        descriptor = lock.make_inheritable()
        return [sys.executable, "-m", "tools.serving.supervise", str(descriptor), plan.to_json()]

    def _check_weights(self, report: Report) -> None:
        """Import missing weights and check all in a separate process, unless they passed before."""
        repository = self.settings.model_repository
        if are_proven(self.home, repository):
            return
        with subprocess.Popen(
            [sys.executable, "-m", "tools.serving.weights"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
        ) as process:
            for line in process.stdout or ():
                report(line.rstrip("\n"))
            complaint = process.stderr.read() if process.stderr else ""
        if process.returncode:
            lines = complaint.strip().splitlines() or ["the weights could not be checked"]
            raise ServingError(lines[-1])
        note_proven(self.home, repository)

    def _prepare_redis(self, settings: RunSettings, report: Report) -> bool:
        """Prepare a private Redis if no URL is set; returns whether it can be started."""
        if self.settings.redis_url is not None:
            return False
        if not redis_part.is_installed():
            report(
                f"{redis_part.PROGRAM} is not installed: responses are cached in the gateway's "
                "process only (on Debian: apt-get install redis-server)"
            )
            return False
        redis_part.RedisPart(settings, self.home).prepare()
        return True
