"""Threads that answer the requests of a stage, in place of a process for each of its instances."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Lanes:
    """Does so much work at a time; whoever brings more waits until a thread is free.

    It only helps where the work releases the GIL, as OpenCV does, or waits for another stage.
    """

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane")

    def take(self, work: Callable[[], None]) -> None:
        """Begin `work` on a free thread, as soon as there is one."""
        # not without end: what waits belongs into Triton's queue, where it is seen and bounded
        self._free.acquire()
        self._pool.submit(work).add_done_callback(lambda _: self._free.release())

    def close(self) -> None:
        """Finish what runs."""
        self._pool.shutdown(wait=True)
