"""Upstreams that may be away: work waits for them, and the log says so once."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError, InsufficientStorageError, StorageUnavailableError
from gateway.worker.backoff import Backoff, Pauses

T = TypeVar("T")
log = logging.getLogger(__name__)

_PROBES: Final = Pauses(first=0.2, longest=2.0)
_PROBE_SECONDS: Final = 2.0
_SILENT_SECONDS: Final = 5.0
"""A database that neither answers nor refuses is away after this long."""

_CANCELLED_SECONDS: Final = 0.5


class Outage:
    """Logs once that something is away, and once that it is back."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._since: float | None = None

    @property
    def is_on(self) -> bool:
        """Whether it is away."""
        return self._since is not None

    def begin(self, reason: str) -> None:
        """Note that it is away."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning("waiting for %s", self.name, extra={"reason": reason})

    def end(self) -> None:
        """Note that it answers."""
        if self._since is not None:
            seconds = round(time.monotonic() - self._since, 1)
            self._since = None
            log.warning("%s is back", self.name, extra={"seconds": seconds})


class Upstream:
    """A gate in front of an upstream: closed from a failure until a probe succeeds."""

    def __init__(
        self,
        name: str,
        probe: Callable[[], Awaitable[object]],
        background: BackgroundTasks,
        *,
        pauses: Pauses = _PROBES,
    ) -> None:
        """Guard an upstream.

        probe: returns if the upstream answers, raises AurumError otherwise.
        """
        self._probe = probe
        self._background = background
        self._pauses = pauses
        self._outage = Outage(name)
        self._open = asyncio.Event()
        self._open.set()

    @property
    def is_away(self) -> bool:
        """Whether the last probe failed."""
        return self._outage.is_on

    async def wait(self) -> None:
        """Return when the upstream answers, as far as is known."""
        await self._open.wait()

    def suspect(self) -> None:
        """Note that a call failed: the gate is closed until a probe succeeds."""
        if self._open.is_set():
            self._open.clear()
            self._background.start(f"probe-{self._outage.name}", self._keep_probing())

    async def _keep_probing(self) -> None:
        backoff = Backoff(self._pauses)
        while True:
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._probe()
            except TimeoutError:
                self._outage.begin(f"no answer for {_PROBE_SECONDS:g} s")
            except AurumError as error:
                self._outage.begin(error.detail)
            except Exception as error:  # a gate that nobody opens would stop the worker for good
                log.exception("probe failed", extra={"upstream": self._outage.name})
                self._outage.begin(type(error).__name__)
            else:
                self._outage.end()
                self._open.set()
                return
            await asyncio.sleep(backoff.next())


class Insistence:
    """Repeats calls to the records until they are answered."""

    def __init__(
        self, *, pauses: Pauses = _PROBES, silent_seconds: float = _SILENT_SECONDS
    ) -> None:
        self._pauses = pauses
        self._silent_seconds = silent_seconds
        self._outage = Outage("the database")

    @property
    def is_away(self) -> bool:
        """Whether the last call was not answered."""
        return self._outage.is_on

    async def on(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call, again and again if the records are away or full; every call must be repeatable."""
        backoff = Backoff(self._pauses)
        while True:
            try:
                answer = await self._noticed(call)
            except (StorageUnavailableError, InsufficientStorageError) as error:
                self._outage.begin(error.detail)
                await asyncio.sleep(backoff.next())
            else:
                self._outage.end()
                return answer

    async def _noticed(self, call: Callable[[], Awaitable[T]]) -> T:
        """Wait for the answer, and say so if it takes long."""
        task = asyncio.ensure_future(call())
        try:
            await asyncio.wait({task}, timeout=self._silent_seconds)
            if not task.done():
                self._outage.begin(f"no answer for {self._silent_seconds:g} s")
            return await task
        finally:
            if not task.done():
                # a call that is given up ends before the connections are closed
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCELLED_SECONDS)
