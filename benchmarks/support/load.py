"""Callers of one route: a number of callers that wait for answers, or a steady rate that does not.

They use a minimal HTTP client, because they run on the cores that they measure: a usual client
needs four times as much time for a request.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import uvloop

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 60.0
_JPEG: Final = "image/jpeg"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run callers until they are done."""
    return uvloop.run(work)


@dataclass(slots=True)
class Answered:
    """seconds: duration of each answer, by HTTP status; elapsed: duration of the run."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    elapsed: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Add one answer; status 0 is a failed connection."""
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def counts(self) -> Counter[int]:
        """Number of answers by status."""
        return Counter({status: len(each) for status, each in self.seconds.items()})

    def rate(self, status: int = 200) -> float:
        """Return answers of a status per second."""
        return len(self.seconds.get(status, ())) / self.elapsed

    def percentile(self, share: float, status: int = 200) -> float:
        """Return the quantile `share` (0-1) of the durations of a status, in milliseconds."""
        times = self.seconds.get(status, [])
        if len(times) < 2:
            return times[0] * 1000 if times else float("nan")
        cuts = statistics.quantiles(times, n=1000, method="inclusive")
        return cuts[min(max(round(share * 1000) - 1, 0), 998)] * 1000


class _Callers:
    """Posts one body repeatedly over reused connections."""

    def __init__(self, url: str, body: bytes, content_type: str = _JPEG) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        lines = (
            f"POST {parts.path} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Accept: */*",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
        )
        self._request = "\r\n".join([*lines, "", ""]).encode() + body

    async def send(self, to: Answered) -> int:
        """Send the photo and add the answer to `to`; return its status, 0 for none."""
        started, status = time.perf_counter(), 0
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                status = await self._post()
        except (OSError, EOFError, TimeoutError):
            pass
        to.add(status, time.perf_counter() - started)
        return status

    async def _post(self) -> int:
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        )
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r")[0]))
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head[9:12])

    def close(self) -> None:
        """Close idle connections."""
        for _, writer in self._idle:
            writer.close()


async def closed(url: str, photo: bytes, *, callers: int, count: int) -> Answered:
    """Send `count` requests in total; each caller sends the next one after its last answer."""
    answered, left, caller = Answered(), iter(range(count)), _Callers(url, photo)

    async def call() -> None:
        for _ in left:
            await caller.send(answered)

    started = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    answered.elapsed = time.perf_counter() - started
    caller.close()
    return answered


async def timed(
    url: str, body: bytes, *, callers: int, seconds: float, content_type: str = _JPEG
) -> Answered:
    """`callers` that do not pause and send nothing more once the time is over.

    `elapsed` goes to the last answer, so that each answer counts.
    """
    answered, caller = Answered(), _Callers(url, body, content_type)
    started = time.perf_counter()

    async def call() -> None:
        while time.perf_counter() - started < seconds:
            await caller.send(answered)

    await asyncio.gather(*(call() for _ in range(callers)))
    answered.elapsed = time.perf_counter() - started
    caller.close()
    return answered


async def saturated(url: str, photo: bytes, *, callers: int, seconds: float) -> float:
    """Return answers per second (status 200) of `callers` that never pause.

    Answers in the first sixth of `seconds` and after `seconds` do not count.
    """
    done: list[float] = []
    caller, begin = _Callers(url, photo), time.perf_counter()

    async def call() -> None:
        while time.perf_counter() - begin < seconds:
            if await caller.send(Answered()) == 200:
                done.append(time.perf_counter() - begin)

    await asyncio.gather(*(call() for _ in range(callers)))
    caller.close()
    first = seconds / 6
    return sum(first < at <= seconds for at in done) / (seconds - first)


async def open_loop(url: str, photo: bytes, *, rate: float, seconds: float) -> Answered:
    """Send `rate` requests a second, whether or not earlier ones are answered."""
    answered, calls, caller = Answered(), [], _Callers(url, photo)
    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
        calls.append(asyncio.create_task(caller.send(answered)))
    await asyncio.gather(*calls)
    answered.elapsed = time.perf_counter() - started
    caller.close()
    return answered
