"""A socket in the folder of the vectors, at which other processes read from the running engine.

A shard is open in one process only, so a backup of a running service has to ask the engine. Only
the user that runs it may, and only for methods that change nothing; the messages are those of
`gateway/child_process.py`. Requests wait in line with those of the gateway.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeAlias, cast

from gateway.child_process import Reply, Request, pack, read_frame, read_packed
from gateway.errors import StorageUnavailableError
from gateway.vectors.base import FacePoint, VectorCollection, VectorInfo

SOCKET: Final = "engine.sock"
_METHODS: Final = frozenset({"info", "retrieve"})
_PEER: Final = struct.Struct("3i")
"""Process, user and group at the other end."""
_SECONDS: Final = 60.0
"""Longest wait for an answer: a busy engine answers others first."""
log = logging.getLogger("aurum.vectors")


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
        while isinstance(request := read_frame(source), Request):
            if request.method not in _METHODS:
                log.warning("a reader asked for %s", request.method)
                return
            waiting.put(Asked(request, replies.put))
            # this thread waits for a slow reader, the engine does not
            connection.sendall(pack(replies.get()))


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
        return cast("VectorInfo", await self._ask("info", collection.name))

    async def retrieve(
        self, collection: VectorCollection, face_ids: Sequence[str]
    ) -> tuple[FacePoint, ...]:
        """See `VectorStore.retrieve`."""
        points = await self._ask("retrieve", collection.name, tuple(face_ids))
        return cast("tuple[FacePoint, ...]", points)

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def _ask(self, method: str, *arguments: object) -> object:
        try:
            async with asyncio.timeout(_SECONDS):
                self._writer.write(pack(Request(0, method, arguments)))
                await self._writer.drain()
                reply = await read_packed(self._reader)
        except OSError as error:
            raise StorageUnavailableError("the vector engine does not answer") from error
        if not isinstance(reply, Reply):
            raise StorageUnavailableError("the vector engine ended")
        if reply.error is not None:
            raise reply.error
        return reply.value


@contextmanager
def _descriptor(folder: Path) -> Iterator[str]:
    """Name the socket by an open folder: an address has 107 bytes at most, a path may have more."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
