"""The NDJSON file of a bulk command, which is also its memory of what is done."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from tools.batch.types import Line
from tools.errors import BatchError

Key = tuple[str, str]
"""Name and SHA-256 of an input."""


class Journal:
    """One line for each input, complete before the next begins: a kill loses none of them.

    Lines are found again by name and hash of their input; the file is read, not kept in memory.
    """

    def __init__(self, path: Path, header: Mapping[str, str]) -> None:
        self._path = path
        self._header = header
        self._places: dict[Key, tuple[int, int]] = {}
        self._file: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @classmethod
    def open(cls, path: Path, header: Mapping[str, str], *, resume: bool) -> Self:
        """Open a file for one command.

        Args:
            path: the file.
            header: members of every line; those of another command are not continued.
            resume: keep what was answered. Lines of failures are removed, as they are asked again,
                and so is a last line that was cut off.

        Raises:
            BatchError: another process writes to it, or it was written for something else.
        """
        journal = cls(path, header)
        try:
            journal._open(resume=resume)
        except OSError as error:
            journal.close()
            raise BatchError(f"{path} cannot be written: {error.strerror or error}") from error
        except BatchError:
            journal.close()
            raise
        return journal

    def __contains__(self, key: Key) -> bool:
        """Whether an input was answered."""
        return key in self._places

    def __len__(self) -> int:
        """Count the answered inputs."""
        return len(self._places)

    def line(self, key: Key) -> Line:
        """Read the line of an answered input."""
        start, length = self._places[key]
        with self._path.open("rb") as file:
            file.seek(start)
            return self._parse(json.loads(file.read(length)))

    def write(self, line: Line) -> None:
        """Append a line and hand it to the operating system."""
        if self._file is None:
            raise RuntimeError("the journal is not open")
        text = dump_line(line, self._header)
        start = self._file.tell()
        self._file.write(text)
        self._file.flush()
        if line.is_done and line.sha256 is not None:
            self._places[line.name, line.sha256] = (start, len(text))

    def close(self) -> None:
        """Close the file and let others write to it."""
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            self._lock.close()

    @property
    def _lock_path(self) -> Path:
        # beside the file, which `_keep_answers` replaces
        return self._path.with_name(f".{self._path.name}.lock")

    def _open(self, *, resume: bool) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._lock_path.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise BatchError(f"another command writes to {self._path}") from error
        self._lock = lock
        if resume and self._path.exists():
            self._keep_answers()
        self._file = self._path.open("ab")

    def _keep_answers(self) -> None:
        kept = self._path.with_name(f".{self._path.name}.kept")
        try:
            with kept.open("wb") as target:
                for text in self._answered():
                    target.write(text)
                target.flush()
                os.fsync(target.fileno())
            kept.replace(self._path)
        finally:
            kept.unlink(missing_ok=True)

    def _answered(self) -> Iterator[bytes]:
        start = 0
        with self._path.open("rb") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    return
                try:
                    members = json.loads(text)
                    line = self._parse(members)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    message = f"{self._path}, line {number} was not written by this command"
                    raise BatchError(message) from error
                if any(members.get(name) != value for name, value in self._header.items()):
                    message = f"{self._path} has the answers of another command, see line {number}"
                    raise BatchError(message)
                key = (line.name, line.sha256 or "")
                if line.is_done and key not in self._places:
                    self._places[key] = (start, len(text))
                    start += len(text)
                    yield text

    def _parse(self, members: Mapping[str, Any]) -> Line:
        own = {name: value for name, value in members.items() if name not in self._header}
        return Line.from_json(own)


def dump_line(line: Line, header: Mapping[str, str]) -> bytes:
    """Write a line as JSON, with its line break."""
    members = {**header, **line.to_json()}
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
