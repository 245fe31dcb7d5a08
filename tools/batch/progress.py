"""A progress bar on standard error: photos, rate, time left."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class ProgressBar:
    """Counts photos; its length is that of the input in bytes, as archives name no number.

    Nothing is shown where standard error is no terminal.
    """

    def __init__(self, console: Console, total_bytes: int) -> None:
        self._progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[photos]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total_bytes or None, photos="0 photos")
        self._started = time.monotonic()
        self._answered = 0

    def __enter__(self) -> Self:
        """Show it."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove it."""
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a line above it."""
        self._progress.console.print(text)

    def advance(self, weight: int, *, answered: int = 1) -> None:
        """Note that an input of `weight` bytes is done; answered: how many photos it was."""
        self._answered += answered
        seconds = max(time.monotonic() - self._started, 1e-3)
        word = "photo" if self._answered == 1 else "photos"
        text = f"{self._answered:,} {word}  {self._answered / seconds:.1f}/s"
        self._progress.update(self._task, advance=weight, photos=text)
