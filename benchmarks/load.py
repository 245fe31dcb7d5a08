"""Callers of one route: so many that wait for their answers, or a steady rate that does not."""

import asyncio
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import aiohttp

_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)


@dataclass(slots=True)
class Answered:
    """seconds: of each answer, by HTTP status; elapsed: of the whole."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    elapsed: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Note one answer; status 0 is a connection that failed."""
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def counts(self) -> Counter[int]:
        """Answers by status."""
        return Counter({status: len(each) for status, each in self.seconds.items()})

    def rate(self, status: int = 200) -> float:
        """Answers of a status per second."""
        return len(self.seconds.get(status, ())) / self.elapsed

    def percentile(self, share: float, status: int = 200) -> float:
        """Milliseconds within which that share (0-1) of the answers of a status came."""
        times = self.seconds.get(status, [])
        if len(times) < 2:
            return times[0] * 1000 if times else float("nan")
        cuts = statistics.quantiles(times, n=1000, method="inclusive")
        return cuts[min(max(round(share * 1000) - 1, 0), 998)] * 1000


async def closed(url: str, photo: bytes, *, callers: int, count: int) -> Answered:
    """`callers` that each send the next request when the last is answered, `count` in all."""
    answered, left = Answered(), iter(range(count))
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:

        async def caller() -> None:
            for _ in left:
                await _send(session, url, photo, answered)

        started = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        answered.elapsed = time.perf_counter() - started
    return answered


async def saturated(url: str, photo: bytes, *, callers: int, seconds: float) -> float:
    """Answers per second (status 200) while `callers` never pause, without start and end.

    A sixth of the time goes by before the first answer counts; none counts after the time.
    """
    done: list[float] = []
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        begin = time.perf_counter()

        async def caller() -> None:
            answered = Answered()
            while time.perf_counter() - begin < seconds:
                await _send(session, url, photo, answered)
                if answered.seconds.pop(200, None):
                    done.append(time.perf_counter() - begin)

        await asyncio.gather(*(caller() for _ in range(callers)))
    first = seconds / 6
    return sum(first < at <= seconds for at in done) / (seconds - first)


async def open_loop(url: str, photo: bytes, *, rate: float, seconds: float) -> Answered:
    """`rate` requests a second, whether or not the ones before are answered."""
    answered, calls = Answered(), []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector) as session:
        started = time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
            calls.append(asyncio.create_task(_send(session, url, photo, answered)))
        await asyncio.gather(*calls)
        answered.elapsed = time.perf_counter() - started
    return answered


async def _send(session: aiohttp.ClientSession, url: str, photo: bytes, to: Answered) -> None:
    started, status = time.perf_counter(), 0
    try:
        async with session.post(url, data=photo, headers={"Content-Type": "image/jpeg"}) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError):
        pass
    to.add(status, time.perf_counter() - started)
