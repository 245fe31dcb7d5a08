"""Threads that process the requests of a stage, instead of a process per model instance."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Lanes:
    """Runs up to `count` pieces of work at a time; a caller with more waits for a free thread.

    It helps only if the work releases the GIL, as OpenCV does, or waits for another stage.
    """

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="lane")

    def take(self, work: Callable[[], None]) -> None:
        """Start `work` on a thread as soon as one is free."""
        # blocks, so that further requests wait in Triton's queue, which is bounded and measured
        self._free.acquire()
        self._pool.submit(work).add_done_callback(lambda _: self._free.release())

    def close(self) -> None:
        """Finish what runs."""
        self._pool.shutdown(wait=True)
