"""The processes that decode: one that forks, and its children, each with one image at a time.

Started by `pool.py` as `python -m triton_python_backend.decoders.process FD`. The first process
loads OpenCV and never sees an image. A child that replaces a crashed one is a fork of it, which
takes some milliseconds. Both end when the other end of their socket is closed.
"""

import gc
import mmap
import os
import pickle
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from triton_python_backend import decoding
from triton_python_backend.decoders import sandbox
from triton_python_backend.decoders.messages import (
    DECODED,
    FAILED,
    HELLO,
    INVALID,
    LONGEST_REPLY,
    REPLY,
    REQUEST,
    SPAWN,
    Layout,
)
from triton_python_backend.formats.header import InvalidImageError

if TYPE_CHECKING:
    from triton_python_backend.formats.header import Header

_SENT_ALONG: Final = 2
_ENDED_BY_ITSELF: Final = 0


class Decoder:
    """One child: decodes what lies in the memory, one image after the other."""

    def __init__(self, channel: socket.socket, memory: int) -> None:
        self._channel = channel
        self._memory = memory
        self._mapped: mmap.mmap | None = None

    def serve(self) -> None:
        """Decode until the owner closes the channel."""
        self._channel.send(HELLO.pack(os.getpid()))
        while request := self._channel.recv(REQUEST.size):
            self._channel.send(self._answer(*REQUEST.unpack(request)))

    def _answer(self, image: int, header: int, size: int, reduction: int) -> bytes:
        try:
            return self._decode(self._map(size), Layout(image, header), reduction or None)
        except InvalidImageError as error:
            return _failure(INVALID, str(error))
        except Exception as error:  # noqa: BLE001 - the owner tells the caller of this image
            return _failure(FAILED, repr(error))

    def _map(self, size: int) -> mmap.mmap:
        if self._mapped is None or len(self._mapped) != size:
            self._mapped = mmap.mmap(self._memory, size)
        return self._mapped

    @staticmethod
    def _decode(mapped: mmap.mmap, layout: Layout, reduction: int | None) -> bytes:
        data = mapped[: layout.image]
        # written by the owner, which is trusted
        written = mapped[layout.image : layout.image + layout.header]
        header = cast("Header", pickle.loads(written))  # noqa: S301
        picture = decoding.decode_with(header, data, reduction=reduction)
        pixels = picture.pixels
        target = np.frombuffer(mapped, np.uint8, pixels.size, layout.pixels_at)
        np.copyto(target.reshape(pixels.shape), pixels)
        rows, columns = pixels.shape[:2]
        return REPLY.pack(DECODED, rows, columns, picture.width, picture.height, picture.reduction)


def _failure(outcome: int, reason: str) -> bytes:
    reply = REPLY.pack(outcome, 0, 0, 0, 0, 0) + reason.encode("utf-8", "replace")
    return reply[:LONGEST_REPLY]


def fork_decoders(control: socket.socket) -> None:
    """Fork a decoder for each message until the owner closes the socket."""
    signal.signal(signal.SIGCHLD, _note_ends)
    # objects that exist now are never freed; a scan would copy their pages into each child
    gc.collect()
    gc.freeze()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, SPAWN.size, _SENT_ALONG)
        if not message:
            return
        channel, memory = descriptors
        try:
            child = os.fork()
        except OSError as error:
            # the owner sees the closed channel
            sys.stderr.write(f"no decoder can be started: {error}\n")
            child = -1
        if child == 0:
            control.close()
            _become_decoder(channel, memory, niceness=SPAWN.unpack(message)[0])
        os.close(channel)
        os.close(memory)


def _become_decoder(channel: int, memory: int, *, niceness: int) -> None:
    """Decode until the owner is gone, then end this child; it does not return."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        with socket.socket(fileno=channel) as opened:
            sandbox.enter()
            Decoder(opened, memory).serve()
        status = 0
    except OSError as error:
        sys.stderr.write(f"a decoder ended: {error}\n")
    finally:
        # the parent's clean-up is not this child's
        os._exit(status)


def _note_ends(*_: object) -> None:
    """Reap children, and say which of them crashed."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            return
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
            name = signal.Signals(os.WTERMSIG(status)).name
            sys.stderr.write(f"decoder process {child} was ended by {name}\n")


def main() -> int:
    """Serve the socket whose number is the only argument; returns the exit status."""
    # Ctrl-C reaches the whole process group; the owner closes the sockets when it is done
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as control:
        fork_decoders(control)
    return _ENDED_BY_ITSELF


if __name__ == "__main__":
    sys.exit(main())
