"""Decodes images in processes that a picture may crash, hang or take over.

Each process has one image at a time, so that the image under way is the one to blame. Its
replacement is forked from a process that never sees an image, within milliseconds; no other image
waits for it.
"""

import os
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from triton_python_backend import decoding
from triton_python_backend.decoders.crashers import Crashers
from triton_python_backend.decoders.messages import SPAWN
from triton_python_backend.decoders.worker import DecoderEndedError, DecoderStuckError, Worker
from triton_python_backend.decoding import Picture
from triton_python_backend.formats.header import Header, InvalidImageError

_PROGRAM: Final = "triton_python_backend.decoders.process"
_ATTEMPTS: Final = 2
"""Processes that an image is given to, as the first one may have been ended by something else."""
_STARTS: Final = 2
_STANDARD_ERROR: Final = 2
_INHERITED: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LD_LIBRARY_PATH",
        "MALLOC_ARENA_MAX",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
        "PATH",
        decoding.MAX_PIXELS_VARIABLE,
    }
)
_GIVEN: Final = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    # decoders that no image reaches, as each is sniffed before
    "OPENCV_IO_ENABLE_OPENEXR": "0",
    "OPENCV_IO_ENABLE_JASPER": "0",
}
CRASHES: Final = "the decoder does not survive it"


class DecodersAwayError(RuntimeError):
    """No process that decodes can be started; nothing is wrong with the image."""


class DecoderPool:
    """Decoder processes of one stage; may be shared by threads."""

    def __init__(self, *, keep: int, log: Callable[[str], None]) -> None:
        """Keep up to `keep` idle processes; there is never more than one for each waiting thread.

        log: gets a line about each process that did not survive its image.
        """
        self._keep = keep
        self._log = log
        self._crashers = Crashers()
        self._lock = threading.Lock()
        self._idle: defaultdict[int, list[Worker]] = defaultdict(list)
        self._starting = threading.Lock()
        self._nursery: _Nursery | None = None

    def decode_with(self, header: Header, data: bytes, *, reduction: int | None = None) -> Picture:
        """Decode as `decoding.decode_with` does, at the priority of the calling thread.

        Raises:
            InvalidImageError: as there; also for an image that crashed two processes, or does not
                end. Such an image is remembered for a while, and refused at once.
            DecodersAwayError: no process can be started.

        """
        decoding.check_pixels(header)
        if self._crashers.holds(data):
            raise InvalidImageError(CRASHES)
        for _ in range(_ATTEMPTS):
            worker = self._take()
            try:
                picture = worker.decode(header, data, reduction=reduction)
            except InvalidImageError:
                self._give_back(worker)
                raise
            except (DecoderEndedError, DecoderStuckError) as error:
                self._log(f"{error}, over a {header.format} of {len(data)} bytes")
                worker.close()
                if isinstance(error, DecoderStuckError):
                    break
            except BaseException:
                worker.close()
                raise
            else:
                self._give_back(worker)
                return picture
        self._crashers.add(data)
        raise InvalidImageError(CRASHES)

    def start(self) -> None:
        """Start a process, so that the first image need not wait; raises DecodersAwayError."""
        self._give_back(self._take())

    def close(self) -> None:
        """End all processes; images under way end with an error."""
        with self._lock:
            workers = [worker for each in self._idle.values() for worker in each]
            self._idle.clear()
            nursery, self._nursery = self._nursery, None
        for worker in workers:
            worker.close()
        if nursery is not None:
            nursery.close()

    def _take(self) -> Worker:
        niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        with self._lock:
            idle = self._idle[niceness]
            while idle:
                worker = idle.pop()
                if worker.is_alive():
                    return worker
                worker.close()
        return self._start(niceness)

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            idle = self._idle[worker.niceness]
            if len(idle) < self._keep and self._nursery is not None:
                idle.append(worker)
                return
        worker.close()

    def _start(self, niceness: int) -> Worker:
        reason = ""
        for _ in range(_STARTS):
            with self._starting:
                try:
                    if self._nursery is None:
                        self._nursery = _Nursery()
                    return self._nursery.fork(niceness)
                except OSError as error:
                    # it ended, or cannot fork: the next one may
                    reason = str(error)
                    if self._nursery is not None:
                        self._nursery.close()
                    self._nursery = None
        message = f"no decoder process starts: {reason}"
        raise DecodersAwayError(message)


class _Nursery:
    """The process that forks decoders and never sees an image."""

    def __init__(self) -> None:
        """Start it; raises OSError."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        try:
            self._process = subprocess.Popen(
                [sys.executable or "python3", "-m", _PROGRAM, str(number)],
                pass_fds=(number,),
                stdin=subprocess.DEVNULL,
                # of this process the standard output may be a pipe with a protocol of its own
                stdout=_STANDARD_ERROR,
                cwd="/",
                env=_environment(),
            )
        except OSError:
            self._control.close()
            raise
        finally:
            theirs.close()

    def fork(self, niceness: int) -> Worker:
        """Have it fork a decoder; raises OSError."""
        worker, theirs, memory = Worker.prepare(niceness)
        try:
            socket.send_fds(self._control, [SPAWN.pack(niceness)], [theirs.fileno(), memory])
            theirs.close()
            worker.greet()
        except OSError:
            worker.close()
            raise
        finally:
            theirs.close()
        return worker

    def close(self) -> None:
        """End it; its decoders end when their own sockets are closed."""
        self._control.close()
        self._process.wait()


def _environment() -> dict[str, str]:
    """Only what a decoder needs: it gets no secret, whatever the stage has."""
    kept = {name: value for name, value in os.environ.items() if name in _INHERITED}
    return {**kept, **_GIVEN, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
