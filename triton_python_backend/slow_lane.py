"""A thread of a stage for the few requests that take long."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

MAX_WAITING: Final = 8
"""Largest number of pieces of work that wait or run; further ones are rejected."""
_NICENESS: Final = 10
"""Niceness of the thread, so that other requests get the processor first."""


class SlowLane:
    """Runs slow work, one piece at a time, on a thread of low priority.

    It helps only if the work releases the GIL, as OpenCV does while it decodes.
    """

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        self._places = threading.BoundedSemaphore(max_waiting)
        # the thread starts with the first work
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="slow", initializer=_give_way)

    def take(self, work: Callable[[], None]) -> bool:
        """Queue `work`; False if the queue is full."""
        if not self._places.acquire(blocking=False):
            return False
        self._pool.submit(work).add_done_callback(lambda _: self._places.release())
        return True

    def close(self) -> None:
        """Finish what waits."""
        self._pool.shutdown(wait=True)


def _give_way() -> None:
    # on Linux this applies to the calling thread only
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
