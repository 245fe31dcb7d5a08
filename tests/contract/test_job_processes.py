"""Several processes work on one database, and some of them are killed."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sqlalchemy import func, select

from gateway.records.job_tables import JOB_ITEMS
from gateway.records.store import RecordStore
from tests.support.job_records import a_job, found, submitted

IMAGES = 600
LEASE_SECONDS = 5.0
"""Long for these images, short for the test that waits until those of the killed run out."""
DEADLINE_SECONDS = 240.0


class Workers:
    """Processes by name; the accepted ends of all in one file."""

    def __init__(self, url: str, log: IO[bytes]) -> None:
        self._url = url
        self._log = log
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "tests.support.job_process", self._url, name]
        self._running[name] = subprocess.Popen(
            [*command, str(LEASE_SECONDS)], stdout=self._log, stderr=self._log
        )

    async def kill_at_work(self, name: str, records: RecordStore) -> None:
        """Kill a process while it holds images."""
        process = self._running.pop(name)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                assert process.poll() is None, f"{name} has ended: there is nothing to kill"
                process.send_signal(signal.SIGSTOP)
                if await held_by(records, name):
                    break
                process.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.005)
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    async def wait(self) -> list[int]:
        return [
            await asyncio.to_thread(process.wait, DEADLINE_SECONDS)
            for process in self._running.values()
        ]


@contextmanager
def workers(url: str, log: Path) -> Iterator[Workers]:
    with log.open("wb") as file:
        started = Workers(url, file)
        try:
            yield started
        finally:
            started.kill_all()


async def held_by(records: RecordStore, worker: str) -> int:
    """Count the images that a worker holds."""
    held = (JOB_ITEMS.c.worker == worker) & (JOB_ITEMS.c.state == "leased")
    async with records.job_queue._database.read() as connection:
        return (await connection.execute(select(func.count()).where(held))).scalar_one()


async def becomes(records: RecordStore, ended: int) -> None:
    """Wait until so many images have ended, of all jobs."""
    last = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < last:
        page = await records.jobs.page("a", limit=9) + await records.jobs.page("b", limit=9)
        if sum(job.done for job in page) >= ended:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"{ended} images did not end")


async def test_killed_workers_lose_and_double_nothing(
    records: RecordStore, migrated_url: str, tmp_path: Path
) -> None:
    jobs = [await submitted(records, IMAGES // 2, tenant) for tenant in ("a", "b")]
    log = tmp_path / "ends"
    with workers(migrated_url, log) as running:
        for name in ("first", "second", "third"):
            running.start(name)
        await becomes(records, 100)
        await running.kill_at_work("first", records)
        await running.kill_at_work("second", records)
        # one starts again under its name, the other does not: its leases run out
        running.start("first")
        running.start("fourth")
        await becomes(records, 300)
        await running.kill_at_work("first", records)
        await running.kill_at_work("third", records)
        running.start("first")
        running.start("third")
        # the gateway writes meanwhile
        await records.jobs.create(a_job("c"))
        assert set(await running.wait()) == {0}, log.read_text()
    told = log.read_text().splitlines()
    assert len(told) == len(set(told)), "an end was accepted twice"
    attempts = 0
    for before in jobs:
        job = await found(records, before)
        assert (job.state, job.done, job.failed, job.sequence) == ("done", 300, 0, 300)
        events = await records.jobs.events(job.id, limit=999)
        assert [event.sequence for event in events] == list(range(1, 301))
        assert sorted(event.index for event in events) == list(range(300))
        attempts = max(attempts, *(event.attempts for event in events))
        for event in events:
            assert event.result is not None
            assert event.result.sealed.decode().split()[1] == str(event.index)
    assert attempts > 1, "nobody was killed at work"
    ended = {(line.split()[0], int(line.split()[1])) for line in told}
    # a worker that is killed may have ended an image without saying so, at most one slice each
    missing = {(job.id, index) for job in jobs for index in range(300)} - ended
    assert len(missing) <= 4 * 8
