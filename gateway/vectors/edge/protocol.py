"""Messages between the gateway and the engine process.

A frame is 8 bytes of length (big-endian), then a pickle: a `Request` to the engine, a `Reply` from
it. The gateway starts the engine process itself, so pickles come from a trusted source.
"""

import pickle
import struct
from dataclasses import dataclass
from typing import Final

MANIFEST: Final = "manifest.json"
"""The file in a collection's folder that lists its shards."""
LENGTH: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Request:
    """One call: the name of a method of `Engine` and its arguments, in order."""

    number: int
    method: str
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a call: a value or the error to raise."""

    number: int
    value: object
    error: Exception | None


def pack(message: object) -> bytes:
    """Pack a message into a frame."""
    body = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(body)) + body
