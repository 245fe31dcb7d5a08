"""One home served: checks, parts, lock, signals, state."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gateway.settings import Settings
from tools.listeners import gateway_listener, triton_listeners
from tools.registry.rejection_watch import VersionWatch
from tools.registry.version_store import VersionStore
from tools.serving import redis_part, triton_install
from tools.serving.gateway_part import GatewayPart, child_environment
from tools.serving.home import Home, rotate_log
from tools.serving.part import Part
from tools.serving.ports import check_free
from tools.serving.processes import clear_leftovers, record
from tools.serving.state import (
    HomeLock,
    Phase,
    ProcessRecord,
    RunState,
    clear_state,
    read_state,
    write_state,
)
from tools.serving.supervisor import Supervisor
from tools.serving.triton_part import TritonPart
from tools.serving.weights import ensure_weights

Extent = Literal["all", "triton"]
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stack:
    """What is served from one home; `settings` has absolute folders."""

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

    @property
    def address(self) -> str:
        """What a user opens or calls."""
        listener = (
            gateway_listener(self.settings)
            if self.extent == "all"
            else triton_listeners(self.settings)[0]
        )
        return f"http://{listener.address}"

    def environment(self) -> dict[str, str]:
        """Variables for a supervisor of this stack in a process of its own."""
        return child_environment(self.settings)

    def serve(self, *, report: Report) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP.

        Raises ServingError with one line where that cannot be, AlreadyRunningError if the home is
        served already. Leaves no process and no shared memory in any case.
        """
        lock = HomeLock(self.home)
        lock.acquire()
        try:
            if clear_leftovers(self.home, read_state(self.home)):
                report("Ended what a crashed run had left")
            state = RunState(self.command, record(os.getpid()), self.address)
            write_state(self.home, state)
            try:
                parts = self._prepare(report)
                asyncio.run(self._supervise(parts, state, report))
            finally:
                clear_state(self.home)
        finally:
            lock.release()

    def ready_lines(self) -> list[str]:
        """Addresses, for the user."""
        lines = []
        if self.with_triton:
            http, grpc, metrics = triton_listeners(self.settings)
            lines.append(
                f"Triton is ready: HTTP http://{http.address}, gRPC {grpc.address}, "
                f"metrics http://{metrics.address}/metrics"
            )
        if self.extent == "all":
            lines.append(f"Aurum is ready: {self.address}")
        return lines

    def _prepare(self, report: Report) -> list[Part]:
        listeners = [*triton_listeners(self.settings)] if self.with_triton else []
        if self.extent == "all":
            listeners.append(gateway_listener(self.settings))
        check_free(listeners)
        parts: list[Part] = []
        if self.with_triton:
            ensure_weights(self.settings, report=report)
            installation = triton_install.install(self.home.triton, report=report)
            triton = TritonPart(self.settings, self.home, installation)
            triton.prepare(report)
            parts.append(triton)
        if self.extent == "all":
            redis = self._prepare_redis(report)
            parts += [redis] if redis else []
            url = redis.url if redis else None
            parts.append(GatewayPart(self.settings, self.home, redis_url=url))
        for part in parts:
            rotate_log(part.log)
        return parts

    def _prepare_redis(self, report: Report) -> redis_part.RedisPart | None:
        """Prepare a Redis of our own where none is named and one can be had."""
        if self.settings.redis_url is not None:
            return None
        if not redis_part.is_installed():
            report(
                f"No {redis_part.PROGRAM} is installed: answers are cached in the gateway's "
                "process only (on Debian: apt-get install redis-server)"
            )
            return None
        part = redis_part.RedisPart(self.settings, self.home)
        part.prepare()
        return part

    async def _supervise(self, parts: list[Part], state: RunState, report: Report) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop.set)

        def note(phase: Phase, running: Mapping[str, ProcessRecord]) -> None:
            write_state(self.home, replace(state, phase=phase, parts=dict(running)))

        def tell() -> None:
            for line in self.ready_lines():
                report(line)

        supervisor = Supervisor(parts, report=report, listener=note, optional={"redis"})
        version_store = VersionStore(self.settings.model_repository, self.home.root)
        watch = asyncio.create_task(VersionWatch(self.settings, version_store, report=report).run())
        try:
            await supervisor.run(stop=stop, on_ready=tell)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        report("Stopped")
