"""The fallback's process: the ensemble without a server, which answers requests from a pipe.

Started by `fallback.py` as `python -m gateway.inference.process`, it ends when its standard input
ends. The gateway itself loads neither OpenCV nor ONNX Runtime, and a crash or a run that never ends
costs this process only. The messages are those of `gateway/child_process.py`.
"""

import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final, cast

from gateway.child_process import Reply, Request, pack, read_frame
from gateway.errors import AurumError, ConfigurationError, RequestTimeoutError
from gateway.inference.fallback import Start
from gateway.inference.local import LocalEnsemble
from gateway.telemetry.logs import configure_logging
from gateway.types import Analysis, Need
from triton_python_backend.contract import Look
from triton_python_backend.decoders.pool import DecoderPool

log = logging.getLogger("aurum.fallback")

_CANNOT_LOAD: Final = 1
_END_SECONDS: Final = 2.0
"""Time that a network has to end its run once the gateway is gone."""


class Server:
    """Answers requests, several at a time, in the order in which they are done."""

    def __init__(self, ensemble: LocalEnsemble, sink: IO[bytes], *, threads: int) -> None:
        self._ensemble = ensemble
        self._sink = sink
        self._writing = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fallback")

    def serve(self, source: IO[bytes]) -> None:
        """Answer until `source` ends."""
        while (message := read_frame(source)) is not None:
            request = cast("Request", message)
            image, need, look, seconds = request.arguments
            self._pool.submit(
                self._answer,
                request.number,
                cast("bytes", image),
                cast("Need", need),
                cast("Look", look),
                time.monotonic() + cast("float", seconds),
            )

    def send(self, reply: Reply) -> None:
        """Send a reply; nobody reads it once the gateway is gone."""
        frame = pack(reply)
        try:
            with self._writing:
                self._sink.write(frame)
                self._sink.flush()
        except BrokenPipeError:
            log.debug("the gateway is gone")

    def _answer(self, number: int, image: bytes, need: Need, look: Look, until: float) -> None:
        try:
            self.send(Reply(number, self._analyse(image, need, look, until), None))
        except AurumError as error:
            # without its cause, which need not survive the way through the pipe
            self.send(Reply(number, None, type(error)(error.detail)))
        except Exception:  # the supervisor of this thread
            log.exception("the fallback engine failed")
            self.send(Reply(number, None, AurumError("inference failed")))

    def _analyse(self, image: bytes, need: Need, look: Look, until: float) -> Analysis:
        if time.monotonic() > until:
            raise RequestTimeoutError("the deadline passed before the fallback engine began")
        return self._ensemble.analyse(image, need, look)


def main() -> int:
    """Load the networks, report which, serve; returns the exit status."""
    # Ctrl-C reaches the whole process group; the gateway closes the input when it is done
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a stray print must not get between the frames
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source = sys.stdin.buffer
    start = cast("Start | None", read_frame(source))
    if start is None:
        return 0
    configure_logging(start.log_level)
    # here, too, a picture may crash its decoder and nothing else
    decoders = DecoderPool(keep=start.threads, log=log.warning)
    try:
        ensemble = LocalEnsemble(start.repository, start.versions, decode=decoders.decode_with)
    except ConfigurationError as error:
        sink.write(pack(Reply(0, None, error)))
        sink.flush()
        return _CANNOT_LOAD
    server = Server(ensemble, sink, threads=start.threads)
    server.send(Reply(0, ensemble.weights, None))
    server.serve(source)
    decoders.close()
    return 0


def _end_within(seconds: float) -> None:
    """End the process even if a network never ends: nothing here has to be saved."""
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    code = main()
    _end_within(_END_SECONDS)
    sys.exit(code)
