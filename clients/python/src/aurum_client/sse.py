"""Server-sent events (WHATWG HTML, section 9.2): parses a stream of bytes.

Lines end at CR, LF or CRLF only. The line splitting of `str` and httpx would also break data at
characters such as U+2028, which JSON may contain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

_LINE_END = re.compile(rb"\r\n|\n|\r")
_MOST_BYTES = 64 << 20
"""Largest event; a longer one is not from this service."""


@dataclass(frozen=True)
class ServerEvent:
    """One event. id: the last id of the stream, also if this event did not have one."""

    name: str
    data: str
    id: Optional[str]


class EventParser:
    """Collects the bytes of a stream and returns complete events."""

    def __init__(self) -> None:
        self.retry_seconds: Optional[float] = None
        """Pause before a new connection that the service asks for."""
        self._buffer = b""
        self._begun = False
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._id: Optional[str] = None

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Add bytes of the stream; raises ValueError for an event beyond all bounds."""
        self._buffer += data
        if not self._begun and len(self._buffer) >= 3:
            self._begun = True
            self._buffer = self._buffer[3:] if self._buffer[:3] == b"\xef\xbb\xbf" else self._buffer
        events = []
        start = 0
        for end in _LINE_END.finditer(self._buffer):
            if end.end() == len(self._buffer) and end[0] == b"\r":
                # the next bytes may begin with the LF of this line end
                break
            event = self._take_line(self._buffer[start : end.start()].decode("utf-8", "replace"))
            start = end.end()
            if event is not None:
                events.append(event)
        self._buffer = self._buffer[start:]
        if len(self._buffer) + self._size > _MOST_BYTES:
            raise ValueError("an event of the stream is too large")
        return events

    def _take_line(self, line: str) -> Optional[ServerEvent]:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            self._data.append(value)
            self._size += len(value)
        elif field == "event":
            self._name = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_seconds = int(value) / 1000
        return None

    def _dispatch(self) -> Optional[ServerEvent]:
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return ServerEvent(name, "\n".join(data), self._id) if data else None
