"""What a deployment says: steps on the terminal, everything in its log."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

Say = Callable[[str], None]


class Output:
    """Lines for people, and a log for later; until a log is open, lines for it are dropped."""

    def __init__(self, say: Say, *, verbose: bool = False) -> None:
        """Write to no log yet. verbose: what goes to the log is said, too."""
        self._say = say
        self._verbose = verbose
        self._file: IO[str] | None = None

    @contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Append to a file that its owner only can read."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            self._file = file
            try:
                yield
            finally:
                self._file = None

    def say(self, line: str) -> None:
        """Say a line and log it."""
        self._say(line)
        self._write(line)

    def note(self, line: str) -> None:
        """Say a detail of the step under way and log it."""
        self.say(f"      {line}")

    def log(self, line: str) -> None:
        """Log what the engine was asked and says."""
        if self._verbose:
            self._say(f"      {line}")
        self._write(f"      {line}")

    @contextmanager
    def step(self, number: int, of: int, title: str) -> Iterator[None]:
        """Say which step begins, and how long it took if it succeeds."""
        self.say(f"[{number}/{of}] {title}")
        begun = time.monotonic()
        yield
        self.log(f"took {time.monotonic() - begun:.1f} s")

    def _write(self, line: str) -> None:
        if self._file is not None:
            at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._file.write(f"{at} {line}\n")
            self._file.flush()
