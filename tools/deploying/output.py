"""What a deployment says: steps on the terminal, everything in its log."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from tools.deploying.errors import DeployError

Say = Callable[[str], None]


class Output:
    """Lines for people, and a log for later; until a log is open, lines for it are dropped.

    What cannot be said or logged ends nothing: a closed terminal or a full disk must not keep a
    deployment from going back.
    """

    def __init__(self, say: Say, *, verbose: bool = False) -> None:
        """Write to no log yet. verbose: what goes to the log is said, too."""
        self._say = say
        self._verbose = verbose
        self._file: FileIO | None = None
        self._is_logged = True

    @contextmanager
    def logging_to(self, path: Path) -> Iterator[None]:
        """Append to a file that its owner only can read; raises DeployError if it cannot."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise DeployError(f"{path} cannot be written: {error.strerror}") from error
        # without a buffer, whose rest would fail at the end
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            self._file = file
            try:
                yield
            finally:
                self._file = None

    def say(self, line: str) -> None:
        """Say a line and log it."""
        self._tell(line)
        self._write(line)

    def note(self, line: str) -> None:
        """Say a detail of the step under way and log it."""
        self.say(f"      {line}")

    def log(self, line: str) -> None:
        """Log what the engine was asked and says."""
        if self._verbose:
            self._tell(f"      {line}")
        self._write(f"      {line}")

    @contextmanager
    def step(self, number: int, of: int, title: str) -> Iterator[None]:
        """Say which step begins, and how long it took if it succeeds."""
        self.say(f"[{number}/{of}] {title}")
        begun = time.monotonic()
        yield
        self.log(f"took {time.monotonic() - begun:.1f} s")

    def _tell(self, line: str) -> None:
        # Rich ends the process when nobody reads any more
        with suppress(OSError, SystemExit):
            self._say(line)

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            self._file.write(f"{at} {line}\n".encode(errors="replace"))
            self._is_logged = True
        except OSError as error:
            if self._is_logged:
                self._is_logged = False
                self._tell(f"the log cannot be written: {error.strerror}")
