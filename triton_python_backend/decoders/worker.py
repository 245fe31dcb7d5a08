"""One decoder process, seen by its owner: its socket, its memory, its answers."""

import fcntl
import mmap
import os
import pickle
import select
import signal
import socket
from contextlib import suppress
from typing import Final

import numpy as np

from triton_python_backend.decoders.messages import (
    DECODED,
    HELLO,
    INVALID,
    LONGEST_REPLY,
    REPLY,
    REQUEST,
    Layout,
)
from triton_python_backend.decoding import Picture
from triton_python_backend.formats.header import Header, InvalidImageError

_CHANNELS: Final = 3
_START_SECONDS: Final = 20.0
LONGEST_SECONDS: Final = 30.0
"""A decoder that works on an image for longer is stuck."""
_STEP_BYTES: Final = 4 << 20
"""The memory grows by multiples of this."""
_KEPT_BYTES: Final = 16 << 20
"""Memory that is kept for the next image; what a larger image needed beyond is given back."""


class DecoderEndedError(RuntimeError):
    """The process ended, or was ended, over its image."""


class DecoderStuckError(RuntimeError):
    """The process did not end its work, and was killed."""


class DecoderFailedError(RuntimeError):
    """The process could not do its work, for lack of memory for example."""


class Worker:
    """A decoder process and what it shares with its owner; used by one thread at a time."""

    def __init__(self, channel: socket.socket, memory: int, niceness: int) -> None:
        self.niceness = niceness
        self._channel = channel
        self._memory = memory
        self._mapped: mmap.mmap | None = None
        self._pid = 0

    @classmethod
    def prepare(cls, niceness: int) -> "tuple[Worker, socket.socket, int]":
        """Make the owner's side; returns it with the socket and the memory for the process."""
        memory = os.memfd_create("aurum-decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # a process that made it shorter would crash the owner
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            os.close(memory)
            raise
        return cls(ours, memory, niceness), theirs, memory

    def greet(self) -> None:
        """Wait until the process runs; raises OSError if it does not."""
        self._channel.settimeout(_START_SECONDS)
        hello = self._channel.recv(HELLO.size)
        if len(hello) != HELLO.size:
            raise OSError("it ended at once")
        (self._pid,) = HELLO.unpack(hello)
        self._channel.settimeout(LONGEST_SECONDS)

    @property
    def pid(self) -> int:
        """The process."""
        return self._pid

    def is_alive(self) -> bool:
        """Whether the process still holds its end and, as it should, says nothing unasked."""
        readable = select.poll()
        readable.register(self._channel, select.POLLIN)
        return not readable.poll(0)

    def decode(self, header: Header, data: bytes, *, reduction: int | None) -> Picture:
        """Have one image decoded.

        Raises:
            InvalidImageError: it is not decodable.
            DecoderEndedError: the process ended over it.
            DecoderStuckError: it takes too long.
            DecoderFailedError: the process could not do its work.

        """
        packed = pickle.dumps(header, protocol=5)
        layout = Layout(len(data), len(packed))
        room = header.stored_width * header.stored_height * _CHANNELS
        mapped = self._map(layout.pixels_at + room)
        mapped[: layout.image] = data
        mapped[layout.image : layout.image + layout.header] = packed
        request = REQUEST.pack(layout.image, layout.header, len(mapped), reduction or 0)
        try:
            self._channel.send(request)
            reply = self._channel.recv(LONGEST_REPLY)
        except TimeoutError as error:
            self._kill()
            message = f"decoder process {self._pid} did not answer for {LONGEST_SECONDS:g} s"
            raise DecoderStuckError(message) from error
        except OSError as error:
            raise DecoderEndedError(self._ended()) from error
        if not reply:
            raise DecoderEndedError(self._ended())
        try:
            return self._read(reply, layout, mapped, room)
        finally:
            if layout.pixels_at + room > _KEPT_BYTES:
                mapped.madvise(mmap.MADV_REMOVE, _KEPT_BYTES, len(mapped) - _KEPT_BYTES)

    def close(self) -> None:
        """Give up the process, which ends by itself."""
        self._channel.close()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
        self._mapped = None

    @staticmethod
    def _read(reply: bytes, layout: Layout, mapped: mmap.mmap, room: int) -> Picture:
        """Read a reply, which a process that was taken over may have written."""
        if len(reply) < REPLY.size:
            raise DecoderEndedError("a decoder process answered nonsense")
        outcome, rows, columns, width, height, reduction = REPLY.unpack_from(reply)
        reason = reply[REPLY.size :].decode("utf-8", "replace")
        if outcome == INVALID:
            raise InvalidImageError(reason)
        if outcome != DECODED:
            raise DecoderFailedError(reason)
        size = rows * columns * _CHANNELS
        if not 0 < size <= room or reduction not in (1, 2, 4, 8) or not width * height:
            raise DecoderEndedError("a decoder process answered nonsense")
        found = np.frombuffer(mapped, np.uint8, size, layout.pixels_at)
        return Picture(found.reshape(rows, columns, _CHANNELS).copy(), width, height, reduction)

    def _map(self, size: int) -> mmap.mmap:
        """Return memory of at least this size."""
        if self._mapped is None or len(self._mapped) < size:
            size = -(-size // _STEP_BYTES) * _STEP_BYTES
            os.ftruncate(self._memory, size)
            self._mapped = mmap.mmap(self._memory, size)
        return self._mapped

    def _ended(self) -> str:
        return f"decoder process {self._pid} ended"

    def _kill(self) -> None:
        # it holds its end of the socket, so the number is still its own
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
