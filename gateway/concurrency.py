"""Admission control for inference, the pool for CPU work, and the owner of background tasks."""

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from gateway.deadline import Deadline, forget_current
from gateway.errors import InferenceUnavailableError, RequestTimeoutError

R = TypeVar("R")
T = TypeVar("T")
log = logging.getLogger(__name__)

_WEIGHT: Final = 0.05
"""Weight of the newest interval in the running mean, which covers about the last twenty."""
_FIRST: Final = 4
"""Completions before the expected wait counts."""
_LONGEST_RETRY_SECONDS: Final = 30
_RESTART_SECONDS: Final = 1.0
_CRASHED: Final = "background task failed"
_PREFIX: Final = "aurum-"
"""First part of the names of tasks, as asyncio shows them."""


class AdmissionControl:
    """Admits requests that will be served soon, and rejects the others instead of queueing them.

    The expected wait follows from Little's law: the number of requests in flight times the mean
    interval between recent completions. Until some are measured, only `limit` counts: the first
    answers of an engine are its slowest.
    """

    def __init__(
        self,
        limit: int,
        *,
        max_wait_seconds: float = math.inf,
        limit_at_first: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Admit at most `limit` requests, none that would wait longer than `max_wait_seconds`.

        limit_at_first: instead of `limit` while the expected wait is not known yet.
        """
        self._limit = limit
        self._limit_at_first = limit if limit_at_first is None else limit_at_first
        self._max_wait_seconds = max_wait_seconds
        self._clock = clock
        self._taken = 0
        self._last_out = math.nan
        self._seconds_each = 0.0
        self._completions = 0

    @property
    def taken(self) -> int:
        """Number of admitted requests that have not ended."""
        return self._taken

    @property
    def expected_wait_seconds(self) -> float:
        """Expected wait of one more request; 0 until it has been measured."""
        return self._taken * self._seconds_each if self._is_measured else 0.0

    @property
    def _is_measured(self) -> bool:
        return self._completions >= _FIRST

    def check(self) -> None:
        """Raise InferenceUnavailableError if one more request would wait too long."""
        wait = self.expected_wait_seconds
        limit = self._limit if self._is_measured else self._limit_at_first
        if self._taken >= limit or (self._taken and wait > self._max_wait_seconds):
            message = f"{self._taken} requests are waiting for inference already"
            raise InferenceUnavailableError(
                message, retry_after_seconds=min(max(1, math.ceil(wait)), _LONGEST_RETRY_SECONDS)
            )

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold one slot; raises as `check`."""
        self.check()
        if not self._taken:
            # the next completion says nothing about the idle time before this request
            self._last_out = self._clock()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._note_out()

    def _note_out(self) -> None:
        now = self._clock()
        seconds, self._last_out = now - self._last_out, now
        self._completions += 1
        # at first the mean of all, then that of the last ones
        weight = max(_WEIGHT, 1 / self._completions)
        self._seconds_each += weight * (seconds - self._seconds_each)


class SlowGate:
    """Runs few slow requests at a time: those that take as long as many others.

    They have an admission control of their own, because their times would inflate the expected
    wait of all other requests.
    """

    def __init__(self, admission: AdmissionControl, *, at_once: int) -> None:
        self._admission = admission
        self._running = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def turn(self, deadline: Deadline) -> AsyncIterator[None]:
        """Wait for a turn.

        Raises:
            InferenceUnavailableError: as `AdmissionControl.take`.
            RequestTimeoutError: no turn came before the deadline.

        """
        with self._admission.take():
            try:
                async with asyncio.timeout(deadline.remaining_seconds()):
                    await self._running.acquire()
            except TimeoutError as error:
                raise RequestTimeoutError(
                    "the deadline passed while other slow requests were running"
                ) from error
            try:
                yield
            finally:
                self._running.release()


class CpuPool:
    """A bounded pool of threads for CPU work, which would block the event loop."""

    def __init__(self, threads: int = 4) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="aurum-cpu")

    async def run(self, work: Callable[[], T], *, deadline: Deadline) -> T:
        """Run `work` on a thread; raises RequestTimeoutError when the deadline passes first."""
        seconds = deadline.remaining_seconds()
        loop = asyncio.get_running_loop()
        try:
            # the future has no name here: an error in it would refer to its own traceback, and so
            # keep the body of the request in memory until the next garbage collection
            async with asyncio.timeout(seconds):
                return await loop.run_in_executor(self._pool, work)
        except TimeoutError as error:
            raise RequestTimeoutError("the deadline passed while waiting for a thread") from error

    def close(self) -> None:
        """Drop work that has not started and wait for the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class BackgroundTasks:
    """Owns the tasks that outlive the call that starts them.

    A task that fails is logged with its name and reported to `on_crash`, once. At the end the
    tasks are cancelled and awaited, the newest first, as later ones may use what earlier ones keep.
    """

    def __init__(self, *, on_crash: Callable[[str], None] = lambda _: None) -> None:
        """Report the name of each task that failed to `on_crash`."""
        self._on_crash = on_crash
        # in the order in which they were started
        self._tasks: dict[asyncio.Task[Any], None] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` once in a task called `name`; its failure is a crash."""
        task = self._own(name, work)
        task.add_done_callback(self._report)
        return task

    def keep(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        restart_seconds: float = _RESTART_SECONDS,
    ) -> asyncio.Task[None]:
        """Run `work` for good: start it again `restart_seconds` after it crashed or returned."""
        return self._own(name, self._restarted(name, work, restart_seconds))

    def detach(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` once; its failure is no crash, but the result of whoever awaits the task.

        Nobody has to await it: the failure is not reported as lost.
        """
        task = self._own(name, work)
        task.add_done_callback(_failure)
        return task

    async def outlast(self, name: str, work: Coroutine[Any, Any, T], *, seconds: float) -> T:
        """Wait for `work`, which goes on when the caller is cancelled or gives up.

        Raises TimeoutError after `seconds`, and whatever `work` raises.
        """
        task = self.detach(name, work)
        async with asyncio.timeout(seconds):
            return await asyncio.shield(task)

    @asynccontextmanager
    async def running(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        restart_seconds: float = _RESTART_SECONDS,
    ) -> AsyncIterator[None]:
        """Keep `work` running until the end of the block; as `keep`."""
        task = self.keep(name, work, restart_seconds=restart_seconds)
        try:
            yield
        finally:
            await self.stop(task)

    async def stop(self, *tasks: asyncio.Task[Any]) -> None:
        """Cancel these tasks and wait until they have ended, the last one first."""
        for task in reversed(tasks):
            task.cancel()
            # not `await task`: its failure is not the failure of whoever stops it
            await asyncio.wait({task})

    async def settle(self, *, seconds: float) -> None:
        """Wait until all tasks have ended by themselves, at most `seconds`."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)

    async def close(self) -> None:
        """Stop all tasks, the newest first."""
        while self._tasks:
            await self.stop(next(reversed(self._tasks)))

    def _own(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        context = contextvars.copy_context()
        context.run(forget_current)
        task = asyncio.create_task(work, name=_PREFIX + name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    async def _restarted(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]], restart_seconds: float
    ) -> None:
        while True:
            try:
                await work()
            except Exception:  # the supervisor of this task
                log.exception(_CRASHED, extra={"task": name})
                self._on_crash(name)
            await asyncio.sleep(restart_seconds)

    def _report(self, task: asyncio.Task[Any]) -> None:
        error = _failure(task)
        if error is not None:
            name = task.get_name().removeprefix(_PREFIX)
            log.error(_CRASHED, exc_info=error, extra={"task": name})
            self._on_crash(name)


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    """Fetch the failure of a task that ended, so that asyncio does not report it as lost."""
    return None if task.cancelled() else task.exception()


def composed(then: Callable[[T], R] | None, make: Callable[..., T]) -> Callable[..., R] | None:
    """Return a function that hands what `make` makes to `then`; None where `then` is None."""
    if then is None:
        return None

    def both(*arguments: Any) -> R:
        return then(make(*arguments))

    return both


async def run_together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; the first failure cancels the others and is raised alone."""
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except ExceptionGroup as failures:
        failure = failures.exceptions[0]
    if failure is None:
        return [task.result() for task in tasks]
    try:
        # outside of the handler: the group is not the context of this failure
        raise failure
    finally:
        # both would refer to their own traceback
        del failure, tasks
