"""Calls to a process that the gateway runs for itself, over its standard input and output.

Frames in both directions: 8 bytes of length, big-endian, then a pickle: of a `Request` one way, of
a `Reply` the other. Both ends are ours and started one by the other. The process ends when its
input ends, so that none outlives a gateway that was killed.
"""

import asyncio
import pickle
import struct
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from asyncio.subprocess import Process

_LENGTH: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Request:
    """One call: the name of a method and its arguments, in order."""

    number: int
    method: str
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """Its answer: a value or the error to raise."""

    number: int
    value: object
    error: Exception | None


def pack(message: object) -> bytes:
    """Pack a message into a frame."""
    body = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(body)) + body


def read_frame(source: IO[bytes]) -> object | None:
    """Read a message in the child; None at the end of its input."""
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    body = source.read(_LENGTH.unpack(head)[0])
    return cast("object", pickle.loads(body))  # noqa: S301 - both ends are this program


def write_to(process: "Process", message: object) -> None:
    """Write a message to a child without waiting. Raises OSError if it has no input."""
    if process.stdin is None:
        raise BrokenPipeError("the process has no input")
    process.stdin.write(pack(message))


async def read_from(process: "Process") -> object | None:
    """Read a message of a child; None when it has ended."""
    if process.stdout is None:
        return None
    try:
        head = await process.stdout.readexactly(_LENGTH.size)
        body = await process.stdout.readexactly(_LENGTH.unpack(head)[0])
    except asyncio.IncompleteReadError:
        return None
    return cast("object", pickle.loads(body))  # noqa: S301 - both ends are this program
