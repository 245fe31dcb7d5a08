"""A socket in the folder of the vectors, at which other processes read from the running engine.

A shard is open in one process only, so a backup of a running service has to ask the engine. Only
the user that runs it may. Frames in both directions: 8 bytes of length, big-endian, then
MessagePack: neither end runs what the other sends. Requests wait in line with the gateway's.
"""

import asyncio
import contextlib
import logging
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, Self, TypeAlias, cast

import msgspec
import numpy as np

from gateway.child_process import Reply, Request
from gateway.errors import StorageUnavailableError
from gateway.vectors.base import (
    FacePoint,
    UnknownVectorCollectionError,
    VectorCollection,
    VectorInfo,
)
from gateway.vectors.payload import read_point, write_payload

SOCKET: Final = "engine.sock"
_PEER: Final = struct.Struct("3i")
"""Process, user and group at the other end."""
_LENGTH: Final = struct.Struct(">Q")
_MOST_QUESTION_BYTES: Final = 1 << 20
_MOST_ANSWER_BYTES: Final = 256 << 20
_SECONDS: Final = 60.0
"""Longest wait for an answer: a busy engine answers others first."""
log = logging.getLogger("aurum.vectors")


class _Question(msgspec.Struct, frozen=True, array_like=True):
    """What is read; ids: of `retrieve`."""

    method: Literal["info", "retrieve"]
    collection: str
    ids: tuple[str, ...] = ()


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    """Numbers of `VectorInfo`, or points: id, vector as float32, payload. error: None, or why."""

    error: str | None = None
    is_unknown: bool = False
    info: tuple[int, int, int, int] = (0, 0, 0, 0)
    points: tuple[tuple[str, bytes, dict[str, Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and what to do with its reply; `deliver` does not block."""

    request: Request
    deliver: Callable[[Reply], None]


Waiting: TypeAlias = "queue.SimpleQueue[Asked | None]"
"""Requests in the order in which they came; None at the end."""


@contextmanager
def listening(folder: Path, waiting: Waiting) -> Iterator[None]:
    """Take requests at the folder's socket until the end of the block."""
    with _descriptor(folder) as address, socket.socket(socket.AF_UNIX) as listener:
        try:
            # the folder belongs to this process: whoever made this one has ended
            (folder / SOCKET).unlink(missing_ok=True)
            listener.bind(address)
            (folder / SOCKET).chmod(0o600)
            listener.listen()
        except OSError as error:
            # some network file systems have no sockets; everything else works there
            log.warning("a running service cannot be backed up: %s", error)
            yield
            return
        threading.Thread(target=_accept, args=(listener, waiting), daemon=True).start()
        try:
            yield
        finally:
            (folder / SOCKET).unlink(missing_ok=True)


def _accept(listener: socket.socket, waiting: Waiting) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            # it was closed
            return
        threading.Thread(target=_answer, args=(connection, waiting), daemon=True).start()


def _answer(connection: socket.socket, waiting: Waiting) -> None:
    """Hand on what one process asks, one request after the other."""
    replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    with connection, contextlib.suppress(OSError), connection.makefile("rb") as source:
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        if _PEER.unpack(peer)[1] not in (0, os.geteuid()):
            return
        while (question := _read_question(source)) is not None:
            arguments = (question.ids,) if question.method == "retrieve" else ()
            request = Request(0, question.method, (question.collection, *arguments))
            waiting.put(Asked(request, replies.put))
            # this thread waits for a slow reader, the engine does not
            connection.sendall(_pack(_to_answer(replies.get())))


def _read_question(source: IO[bytes]) -> _Question | None:
    """Read a request; None at the end, and for anything else."""
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size or _LENGTH.unpack(head)[0] > _MOST_QUESTION_BYTES:
        return None
    try:
        return msgspec.msgpack.decode(source.read(_LENGTH.unpack(head)[0]), type=_Question)
    except msgspec.DecodeError:
        log.warning("a reader asked for something that is not offered")
        return None


def _to_answer(reply: Reply) -> _Answer:
    if reply.error is not None:
        unknown = isinstance(reply.error, UnknownVectorCollectionError)
        return _Answer(error=str(reply.error), is_unknown=unknown)
    if isinstance(reply.value, VectorInfo):
        return _Answer(info=astuple(reply.value))
    points = cast("tuple[FacePoint, ...]", reply.value)
    return _Answer(
        points=tuple((each.face_id, each.vector.tobytes(), write_payload(each)) for each in points)
    )


def _pack(message: _Question | _Answer) -> bytes:
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class EdgeReader:
    """Reads from an engine that another process has started."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, folder: Path) -> Self | None:
        """Connect to the engine of a folder; None if none is running."""
        if not (folder / SOCKET).exists():
            return None
        with _descriptor(folder) as address:
            try:
                return cls(*await asyncio.open_unix_connection(address))
            except (ConnectionRefusedError, FileNotFoundError):
                return None
            except OSError as error:
                message = f"the vector engine refuses connections: {error.strerror}"
                raise StorageUnavailableError(message) from error

    async def info(self, collection: VectorCollection) -> VectorInfo:
        """See `VectorStore.info`."""
        return VectorInfo(*(await self._ask(_Question("info", collection.name))).info)

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """See `VectorStore.retrieve`."""
        answer = await self._ask(_Question("retrieve", collection.name, tuple(face_ids)))
        return tuple(
            read_point(face_id, np.frombuffer(vector, dtype=np.float32), payload)
            for face_id, vector, payload in answer.points
        )

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _ask(self, question: _Question) -> _Answer:
        try:
            async with asyncio.timeout(_SECONDS):
                self._writer.write(_pack(question))
                await self._writer.drain()
                head = await self._reader.readexactly(_LENGTH.size)
                size = min(_LENGTH.unpack(head)[0], _MOST_ANSWER_BYTES)
                body = await self._reader.readexactly(size)
            answer = msgspec.msgpack.decode(body, type=_Answer)
        except (asyncio.IncompleteReadError, msgspec.DecodeError) as error:
            raise StorageUnavailableError("the vector engine ended") from error
        except OSError as error:
            raise StorageUnavailableError("the vector engine does not answer") from error
        if answer.is_unknown:
            raise UnknownVectorCollectionError(question.collection)
        if answer.error is not None:
            raise StorageUnavailableError(answer.error)
        return answer


@contextmanager
def _descriptor(folder: Path) -> Iterator[str]:
    """Name the socket by an open folder: an address has 107 bytes at most, a path may have more."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
