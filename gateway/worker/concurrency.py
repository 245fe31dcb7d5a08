"""How many images a worker has in Triton at a time: one while others wait, else what pays."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.inference.work_done import WorkDone

FLOOR: Final = 1
_YIELD_SECONDS: Final = 4.0
"""How long a worker stays at the floor after it last saw other callers."""
_QUEUED_SHARE: Final = 0.3
"""Requests that wait for a network for this share of the time that it computes gain nothing."""
_CEILING_SECONDS: Final = 30.0
"""How long a number that only filled queues is not tried again."""


@dataclass(frozen=True, slots=True)
class Load:
    """What happened on Triton lately.

    others: images that were asked about by others. queued_share: time that requests waited for a
    network, as a share of the time that networks computed; NaN if nothing was computed.
    """

    others: int
    queued_share: float


class LoadMeter:
    """Compares what Triton did with what this worker and others asked of it.

    Triton counts an image a moment before its answer arrives here, and other workers report what
    they asked every few seconds: for so long their images look like those of callers. What is seen
    in all of the last `readings` is certain.
    """

    def __init__(self, *, readings: int = 2) -> None:
        self._readings = readings
        self._last: WorkDone | None = None
        self._seen: deque[int] = deque(maxlen=readings)
        self._known = 0

    def read(self, done: WorkDone, *, own_images: int) -> Load:
        """Take a reading; own_images: that all known workers have had answered so far."""
        last, self._last = self._last, done
        others = done.images - own_images
        if last is None or done.images < last.images:
            # the first reading, or the first of a Triton that was started again
            self._seen.clear()
            self._seen.append(others)
            return Load(0, math.nan)
        if len(self._seen) < self._readings:
            self._known = min(others, *self._seen)
        self._seen.append(others)
        certain = min(self._seen)
        new, self._known = max(0, certain - self._known), max(certain, self._known)
        computed = done.computed_seconds - last.computed_seconds
        queued = done.queued_seconds - last.queued_seconds
        return Load(new, queued / computed if computed > 0 else math.nan)


class ConcurrencyController:
    """Chooses the number of images in Triton from readings of its load.

    Callers that wait for an answer come first: as soon as there are any, the number drops to 1.
    Without them it grows by one with each reading, up to `most`, as long as the networks' queues
    stay short.
    """

    def __init__(self, *, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self.limit = FLOOR
        self._yield_until = -math.inf
        self._ceiling = most
        self._ceiling_until = -math.inf

    def note(self, load: Load) -> int:
        """Take a reading; returns the new number."""
        now = self._clock()
        if now >= self._ceiling_until:
            self._ceiling = self._most
        if load.others:
            self._yield_until = now + _YIELD_SECONDS
            self.limit = FLOOR
        elif now < self._yield_until:
            self.limit = FLOOR
        elif load.queued_share > _QUEUED_SHARE:
            self.limit = max(FLOOR, self.limit - 1)
            self._ceiling, self._ceiling_until = self.limit, now + _CEILING_SECONDS
        elif self.limit < self._ceiling:
            self.limit += 1
        return self.limit
