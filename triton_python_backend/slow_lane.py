"""A thread beside a stage for the few requests that take long."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

MAX_WAITING: Final = 8
"""Pieces of work that wait or run; one more is refused."""
_NICENESS: Final = 10
"""Other requests get the processor first."""


class SlowLane:
    """Does one piece of slow work after the other, on a thread of low priority.

    It only helps where the work releases the GIL, as OpenCV does while it decodes.
    """

    def __init__(self, *, max_waiting: int = MAX_WAITING) -> None:
        self._places = threading.BoundedSemaphore(max_waiting)
        # no thread runs before there is work
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="slow", initializer=_give_way)

    def take(self, work: Callable[[], None]) -> bool:
        """Do `work` when its turn comes; False if too much waits already."""
        if not self._places.acquire(blocking=False):
            return False
        self._pool.submit(work).add_done_callback(lambda _: self._places.release())
        return True

    def close(self) -> None:
        """Finish what waits."""
        self._pool.shutdown(wait=True)


def _give_way() -> None:
    # on Linux this counts for the thread alone
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
