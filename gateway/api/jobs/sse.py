"""Server-sent events (WHATWG HTML, section 9.2), as bytes."""

import re
from dataclasses import dataclass
from typing import Final

from gateway.errors import InvalidRequestError
from gateway.records.job_types import MAX_NUMBER

CONTENT_TYPE: Final = "text/event-stream"
HEARTBEAT: Final = b":\n\n"
"""A comment, which shows both sides that the other one is still there."""
_POSITION: Final = re.compile(r"([0-9]{1,15})(-end)?")
_END: Final = "-end"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client has read: the number of an event; ended: also that the job had ended."""

    sequence: int = 0
    ended: bool = False

    def __str__(self) -> str:
        return f"{self.sequence}{_END if self.ended else ''}"


def read_position(text: str | None) -> Position:
    """Read `Last-Event-ID`; raises InvalidRequestError for an id that was never sent."""
    if not text:
        return Position()
    found = _POSITION.fullmatch(text)
    if found is None:
        raise InvalidRequestError("'Last-Event-ID' is not the id of an event of this stream")
    return Position(min(int(found[1]), MAX_NUMBER), ended=found[2] is not None)


def reconnect_after(milliseconds: int) -> bytes:
    """Say how long a client waits before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def write_event(name: str, data: bytes, *, position: Position | None = None) -> bytes:
    """Write an event; data: JSON, in one line."""
    identity = b"" if position is None else b"id: %s\n" % str(position).encode()
    return b"%sevent: %s\ndata: %s\n\n" % (identity, name.encode(), data)
