"""The fallback engine: the ensemble in a process of its own, which runs only while it is needed."""

import asyncio
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from gateway.checkout import CHECKOUT, without_secrets
from gateway.child_process import Reply, Request, read_from, write_to
from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import AurumError, InferenceUnavailableError, RequestTimeoutError
from gateway.types import (
    FALLBACK_ENGINE,
    ActiveVersions,
    Analysis,
    EngineStatus,
    Need,
    StageStatus,
    StageVersion,
    Weights,
)
from triton_python_backend import contract

if TYPE_CHECKING:
    from asyncio.subprocess import Process

log = logging.getLogger(__name__)

_START_SECONDS: Final = 60.0
_FAILED_SECONDS: Final = 5.0
"""A process that did not start is not tried again within this time."""
_IDLE_SECONDS: Final = 120.0
_GRACE_SECONDS: Final = 2.0
"""How long past its deadline an image may be worked on before the process is killed."""
_END_SECONDS: Final = 5.0
_ATTEMPTS: Final = 2
"""Processes that one image is given to: the first one may crash over another image."""
_RETRY_AFTER_SECONDS: Final = 2
_VERSION_OF_OTHERS: Final = "1"
"""Of stages without weights."""


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to the process.

    versions: by stage, those to load rather than the newest. threads: images worked on at a time.
    """

    repository: Path
    versions: Mapping[str, str]
    threads: int
    log_level: str


class _EndedError(InferenceUnavailableError):
    """The process ended while it worked on the image."""


@dataclass(slots=True)
class _Child:
    """A running process. wanted: the weights that were known to be active when it started."""

    process: "Process"
    wanted: ActiveVersions
    weights: ActiveVersions
    used_at: float
    waiting: dict[int, "asyncio.Future[Analysis]"] = field(default_factory=dict)
    ended: bool = False
    retired: bool = False

    def fits(self, wanted: ActiveVersions) -> bool:
        """Whether it loaded these weights, or could not when it was asked to."""
        return all(
            self.weights.get(stage) == weights or self.wanted.get(stage) == weights
            for stage, weights in wanted.items()
        )


class FallbackInference:
    """`Inference` by a process that starts with the first image and ends after some idle time.

    It loads the weights that Triton answered with last, as far as they are known and still there. A
    process that crashes is replaced with the next image; one that is stuck is killed.
    """

    def __init__(
        self,
        repository: Path,
        *,
        threads: int,
        log_level: str = "info",
        idle_seconds: float = _IDLE_SECONDS,
        observer: Callable[[], None] = lambda: None,
    ) -> None:
        """Work on at most `threads` images at a time; `observer` gets each start of a process."""
        self._repository = repository
        self._threads = threads
        self._log_level = log_level
        self._idle_seconds = idle_seconds
        self._observer = observer
        self._slots = asyncio.Semaphore(threads)
        self._numbers = itertools.count(1)
        self._tasks = BackgroundTasks()
        self._wanted: dict[str, Weights] = {}
        self._child: _Child | None = None
        self._starting: asyncio.Task[_Child] | None = None
        self._refusal = ""
        self._refused_until = 0.0

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return None if self._child is None or self._child.ended else self._child.process.pid

    def prefer(self, weights: ActiveVersions) -> None:
        """Load these weights, with which Triton answers, rather than the newest."""
        self._wanted |= {stage: each for stage, each in weights.items() if each.version}

    async def analyse(
        self,
        image: bytes,
        *,
        need: Need,
        deadline: Deadline,
        look: contract.Look = contract.DEFAULT_LOOK,
    ) -> Analysis:
        """See `Inference.analyse`."""
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                await self._slots.acquire()
        except TimeoutError as error:
            raise _too_late() from error
        # it keeps its slot until the process is done with it, whether anybody waits or not
        work = self._run(image, need, look, deadline)
        try:
            analysis = await self._tasks.outlast(
                "fallback-call", work, seconds=deadline.at - time.monotonic()
            )
        except TimeoutError as error:
            raise _too_late() from error
        return replace(analysis, engine=FALLBACK_ENGINE)

    async def start(self, *, deadline: Deadline) -> None:
        """See `FallbackEngine.start`."""
        await self._started(deadline)

    async def status(self, *, deadline: Deadline) -> EngineStatus:
        """See `Inference.status`. Starts the process: what it says holds for the next image."""
        try:
            child = await self._started(deadline)
        except RequestTimeoutError:
            return EngineStatus(False, "the fallback engine is starting", ())
        except AurumError as error:
            return EngineStatus(False, error.detail, ())
        return EngineStatus(True, f"process {child.process.pid}", _stages(child.weights))

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """See `Inference.stages`."""
        return _stages((await self._started(deadline)).weights)

    async def in_service(self, *, deadline: Deadline) -> ActiveVersions:
        """See `Inference.in_service`; InferenceUnavailableError while no process runs."""
        child = self._child
        if child is None or child.ended:
            raise InferenceUnavailableError("the fallback engine does not run")
        return child.weights

    async def close(self) -> None:
        """See `Inference.close`."""
        child, self._child = self._child, None
        if child is not None:
            await self._end(child)
        await self._tasks.close()

    async def _run(
        self, image: bytes, need: Need, look: contract.Look, deadline: Deadline
    ) -> Analysis:
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                child = await self._started(deadline)
                try:
                    return await self._ask(child, image, need, look, deadline)
                except _EndedError:
                    if attempt == _ATTEMPTS:
                        raise
            raise AssertionError
        finally:
            self._slots.release()

    async def _ask(
        self, child: _Child, image: bytes, need: Need, look: contract.Look, deadline: Deadline
    ) -> Analysis:
        seconds = deadline.remaining_seconds()
        number = next(self._numbers)
        future: asyncio.Future[Analysis] = asyncio.get_running_loop().create_future()
        child.waiting[number] = future
        try:
            write_to(child.process, Request(number, "analyse", (image, need, look, seconds)))
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                return await future
        except TimeoutError as error:
            log.warning("the fallback engine is stuck", extra={"pid": child.process.pid})
            _kill(child.process)
            raise _too_late() from error
        except OSError as error:
            raise _EndedError("the fallback engine ended") from error
        finally:
            child.waiting.pop(number, None)
            child.used_at = time.monotonic()

    async def _started(self, deadline: Deadline) -> _Child:
        """Return the running process, or start one. Raises as `analyse`."""
        child = self._child
        if child is not None and not child.ended:
            if child.fits(self._wanted):
                child.used_at = time.monotonic()
                return child
            # it answers what it was given, and ends
            self._child = None
            self._tasks.start("fallback-retire", self._retire(child))
        if self._starting is None or self._starting.done():
            if time.monotonic() < self._refused_until:
                raise _unavailable(self._refusal)
            self._starting = self._tasks.detach("fallback-start", self._start())
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                return await asyncio.shield(self._starting)
        except TimeoutError as error:
            raise RequestTimeoutError("the fallback engine did not start in time") from error

    async def _start(self) -> _Child:
        wanted = dict(self._wanted)
        started = time.monotonic()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "gateway.inference.process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=CHECKOUT,
                env={**without_secrets(os.environ), "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as error:
            # no memory, or no further process is allowed
            raise self._refuse(error) from error
        try:
            async with asyncio.timeout(_START_SECONDS):
                weights = await self._greet(process, wanted)
        except (AurumError, OSError, TimeoutError) as error:
            _kill(process)
            await process.wait()
            raise self._refuse(error) from error
        except BaseException:
            _kill(process)
            raise
        seconds = round(time.monotonic() - started, 2)
        log.info("the fallback engine runs", extra={"pid": process.pid, "seconds": seconds})
        self._observer()
        child = _Child(process, wanted, weights, used_at=time.monotonic())
        self._child = child
        self._tasks.start("fallback-reader", self._read(child))
        self._tasks.start("fallback-idle", self._end_when_idle(child))
        return child

    def _refuse(self, error: Exception) -> InferenceUnavailableError:
        """Start no process for a moment; returns what to raise."""
        self._refusal = f"the fallback engine does not start: {error}"
        self._refused_until = time.monotonic() + _FAILED_SECONDS
        log.warning(self._refusal)
        return _unavailable(self._refusal)

    async def _greet(self, process: "Process", wanted: ActiveVersions) -> ActiveVersions:
        versions = {stage: each.version for stage, each in wanted.items() if each.version}
        repository = self._repository.resolve()
        write_to(process, Start(repository, versions, self._threads, self._log_level))
        reply = cast("Reply | None", await read_from(process))
        if reply is None:
            raise InferenceUnavailableError("it ended at once; the log says why")
        if reply.error is not None:
            raise InferenceUnavailableError(str(reply.error))
        return cast("ActiveVersions", reply.value)

    async def _read(self, child: _Child) -> None:
        """Hand out replies until the process ends, or says something that cannot be read."""
        try:
            while (frame := await read_from(child.process)) is not None:
                _hand_over(cast("Reply", frame), child)
        except Exception:  # whatever unpickling half a reply raises
            log.exception("the fallback engine answered nonsense")
        # first: nobody may be given a process that is not read any more
        child.ended = True
        _kill(child.process)
        code = await child.process.wait()
        if not child.retired:
            log.warning("the fallback engine ended", extra={"status": code})
        for future in child.waiting.values():
            if not future.done():
                future.set_exception(_EndedError("the fallback engine ended"))

    async def _end_when_idle(self, child: _Child) -> None:
        while not child.ended and child is self._child:
            idle = time.monotonic() - child.used_at
            if idle >= self._idle_seconds and not child.waiting:
                self._child = None
                log.info("the fallback engine is no longer needed")
                await self._end(child)
                return
            await asyncio.sleep(max(self._idle_seconds - idle, self._idle_seconds / 10))

    async def _retire(self, child: _Child) -> None:
        while child.waiting and not child.ended:
            await asyncio.wait(child.waiting.values())
        await self._end(child)

    async def _end(self, child: _Child) -> None:
        """Close its input, at which it ends by itself; a process that does not is killed."""
        child.retired = True
        if child.process.stdin is not None:
            child.process.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await child.process.wait()
        except TimeoutError:
            _kill(child.process)
            await child.process.wait()


def _hand_over(reply: Reply, child: _Child) -> None:
    future = child.waiting.get(reply.number)
    if future is None or future.done():
        return
    if reply.error is None:
        future.set_result(cast("Analysis", reply.value))
    else:
        future.set_exception(reply.error)


def _kill(process: "Process") -> None:
    # a process that has been waited for is gone
    if process.returncode is None:
        process.kill()


def _too_late() -> RequestTimeoutError:
    return RequestTimeoutError("the fallback engine did not answer within the deadline")


def _unavailable(detail: str) -> InferenceUnavailableError:
    return InferenceUnavailableError(detail, retry_after_seconds=_RETRY_AFTER_SECONDS)


def _stages(weights: ActiveVersions) -> tuple[StageStatus, ...]:
    def version_of(stage: str) -> StageVersion:
        known = weights.get(stage)
        if known is None:
            return StageVersion(_VERSION_OF_OTHERS, "READY", "")
        return StageVersion(known.version or _VERSION_OF_OTHERS, "READY", "", known.id)

    return tuple(StageStatus(stage.name, (version_of(stage.name),)) for stage in contract.STAGES)
