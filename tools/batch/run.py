"""Runs a bulk command: reads inputs, asks for several at a time, keeps and draws the answers."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.batch.journal import Journal
from tools.batch.orders import Order
from tools.batch.output import Sink
from tools.batch.pictures import draw_into, path_in, pixels_of, shrink
from tools.batch.progress import ProgressBar
from tools.batch.sheet import ContactSheet
from tools.batch.types import Input, Line, Outcome, Photo, Refused, Skipped
from tools.errors import BatchError

_KEPT_FAILURES: Final = 1000
_FINISH_SECONDS: Final = 15.0
"""How long requests may take to finish after a signal."""
_CANCEL_AGAIN_SECONDS: Final = 0.2


@dataclass(slots=True)
class Summary:
    """What became of the inputs.

    resumed: answered by an earlier run. skipped: no images. repeated: the same name and bytes came
    again. undrawn: answered, but not decodable or not writable here. failures: those to list.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    resumed: int = 0
    skipped: int = 0
    repeated: int = 0
    undrawn: int = 0
    failures: list[Line] = field(default_factory=list)
    interrupted: bool = False
    error: BatchError | None = None

    @property
    def photos(self) -> int:
        """Number of inputs that were or should have been asked about."""
        return sum(self.outcomes.values()) + self.resumed

    @property
    def exit_status(self) -> int:
        """See `EXIT_STATUSES`."""
        if self.error is not None:
            return self.error.exit_status
        if self.interrupted:
            return 128 + signal.SIGINT
        bad = self.outcomes[Outcome.FAILED] + self.outcomes[Outcome.REFUSED]
        return 2 if bad else 0

    def count(self, line: Line) -> None:
        """Count a new line."""
        self.outcomes[line.outcome] += 1
        if not line.is_done and len(self.failures) < _KEPT_FAILURES:
            self.failures.append(line)


@dataclass(frozen=True, slots=True)
class Targets:
    """Where answers go. journal: a file of an earlier run, too."""

    sink: Sink | None
    journal: Journal | None
    draw: Path | None
    sheet: ContactSheet | None


class Batch:
    """One run."""

    def __init__(
        self, order: Order, targets: Targets, progress: ProgressBar, *, parallel: int
    ) -> None:
        self.summary = Summary()
        self._order = order
        self._targets = targets
        self._progress = progress
        self._parallel = parallel
        self._stopping = asyncio.Event()
        self._ended_at_once = False
        self._tasks: list[asyncio.Task[None]] = []
        self._seen: set[tuple[str, str]] = set()

    async def run(self, inputs: Iterator[Input]) -> Summary:
        """Answer all inputs, or stop after the first signal with those that were begun."""
        waiting: asyncio.Queue[tuple[int, Input] | None] = asyncio.Queue(self._parallel)
        with self._stopped_by_signals():
            try:
                async with asyncio.TaskGroup() as group:
                    self._tasks = [
                        group.create_task(self._read(inputs, waiting)),
                        *(group.create_task(self._work(waiting)) for _ in range(self._parallel)),
                    ]
            except* BatchError as errors:
                self.summary.error = _first(errors)
        if self._ended_at_once:
            raise asyncio.CancelledError
        self.summary.interrupted = self._stopping.is_set()
        return self.summary

    async def _read(
        self, inputs: Iterator[Input], waiting: asyncio.Queue[tuple[int, Input] | None]
    ) -> None:
        position = 0
        while not self._stopping.is_set():
            found = await asyncio.to_thread(next, inputs, None)
            if found is None:
                break
            await waiting.put((position, found))
            position += 1
        for _ in range(self._parallel):
            await waiting.put(None)

    async def _work(self, waiting: asyncio.Queue[tuple[int, Input] | None]) -> None:
        while (taken := await waiting.get()) is not None:
            if not self._stopping.is_set():
                await self._take(*taken)

    async def _take(self, position: int, found: Input) -> None:
        match found:
            case Skipped():
                self.summary.skipped += 1
                self._progress.advance(found.weight, answered=0)
            case Refused():
                error = {"code": "unreadable", "detail": found.reason}
                line = Line(found.name, None, Outcome.FAILED, error=error)
                self._keep(position, line)
                self._progress.advance(found.weight)
            case Photo():
                await self._answer(position, found)
                self._progress.advance(found.weight)

    async def _answer(self, position: int, photo: Photo) -> None:
        key = (photo.name, photo.sha256)
        if key in self._seen:
            self.summary.repeated += 1
            return
        self._seen.add(key)
        journal = self._targets.journal
        if journal is not None and key in journal:
            self.summary.resumed += 1
            if self._targets.draw is not None or self._targets.sheet is not None:
                await self._show(position, photo, journal.line(key), is_new=False)
            return
        line = await self._order.answer(photo)
        self._keep(position, line, with_card=False)
        await self._show(position, photo, line, is_new=True)

    def _keep(self, position: int, line: Line, *, with_card: bool = True) -> None:
        """Write a line before anything else is done with it."""
        try:
            if self._targets.journal is not None:
                self._targets.journal.write(line)
            if self._targets.sink is not None:
                self._targets.sink.write(position, line)
        except OSError as error:
            raise BatchError(f"the output cannot be written: {error.strerror}") from error
        self.summary.count(line)
        if with_card and self._targets.sheet is not None:
            self._targets.sheet.add(position, line, (), None)

    async def _show(self, position: int, photo: Photo, line: Line, *, is_new: bool) -> None:
        """Draw an answer where that is wanted and not done."""
        folder, sheet = self._targets.draw, self._targets.sheet
        path = None if folder is None or line.answer is None else path_in(folder, photo.name)
        if path is not None and not is_new and path.exists():
            path = None
        if path is None and sheet is None:
            return
        marks = self._order.marks(line)
        pixels = await asyncio.to_thread(pixels_of, photo)
        if pixels is None and line.answer is not None:
            self.summary.undrawn += 1
        if pixels is not None and path is not None:
            try:
                await asyncio.to_thread(draw_into, path, pixels, marks)
            except OSError as error:
                raise BatchError(f"{path} cannot be written: {error.strerror}") from error
        if sheet is not None:
            small = None if pixels is None else await asyncio.to_thread(shrink, pixels)
            sheet.add(position, line, marks, small)

    @contextlib.contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """Let the first signal finish what was begun, for a while; the second ends at once."""
        loop = asyncio.get_running_loop()
        late: asyncio.TimerHandle | None = None

        def end() -> None:
            nonlocal late
            if late is not None:
                late.cancel()
            self._ended_at_once = True
            for task in self._tasks:
                task.cancel()
            # again, because a library below can swallow a cancellation that meets an answer
            late = loop.call_later(_CANCEL_AGAIN_SECONDS, end)

        def stop() -> None:
            nonlocal late
            if self._stopping.is_set():
                end()
                return
            self._stopping.set()
            late = loop.call_later(_FINISH_SECONDS, end)
            self._progress.note("stopping after the requests in flight; once more ends at once")

        numbers = (signal.SIGINT, signal.SIGTERM)
        # a loop outside the main thread gets no signals
        with contextlib.suppress(ValueError, RuntimeError):
            for number in numbers:
                loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            if late is not None:
                late.cancel()
            for number in numbers:
                loop.remove_signal_handler(number)


def _first(errors: BaseExceptionGroup[BatchError]) -> BatchError:
    for each in errors.exceptions:
        return _first(each) if isinstance(each, BaseExceptionGroup) else each
    raise ValueError("a group without errors")
