"""Exports what the records know of jobs and workers."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from gateway.errors import AurumError
from gateway.jobs.service import WORKER_SECONDS, Jobs
from gateway.records.job_types import WorkerRecord
from gateway.telemetry.job_metrics import COUNTERS, JobMetrics

_INTERVAL_SECONDS: Final = 5.0
_REMEMBERED: Final = 10_000
"""Workers whose counts are remembered after they were seen last."""
log = logging.getLogger(__name__)


class WorkerCounts:
    """Adds up the counters of all workers; the sums never fall.

    A worker counts from its start, and its counts go with it. So only what each of them counted
    since it was seen last is added: nothing of the workers that are there already when the
    gateway starts, all of one that starts later.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, float], dict[str, float]] = {}
        self._is_first = True

    def growth(self, workers: Sequence[WorkerRecord]) -> dict[str, float]:
        """Return by how much each counter grew since the last call."""
        grown = dict.fromkeys(COUNTERS, 0.0)
        for worker in workers:
            # another process under the same name counts from 0 again
            key = worker.name, worker.started_at
            before = self._seen.pop(key, None)
            now = {name: float(worker.counters.get(name, 0)) for name in COUNTERS}
            # a row may be read twice, or a heartbeat come late
            kept = {name: max(count, (before or {}).get(name, 0.0)) for name, count in now.items()}
            if before is not None or not self._is_first:
                for name, count in kept.items():
                    grown[name] += count - (before or {}).get(name, 0.0)
            # the latest is the last
            self._seen[key] = kept
        while len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._is_first = False
        return grown


class JobMeasures:
    """Reads the records every few seconds."""

    def __init__(self, jobs: Jobs, metrics: JobMetrics) -> None:
        self._queue = jobs.records.job_queue
        self._records = jobs.records.jobs
        self._metrics = metrics
        self._counts = WorkerCounts()

    async def run(self) -> None:
        """Measure for good."""
        while True:
            try:
                await self.measure()
            except AurumError as error:
                # the last figures stay; aurum_part_up says that the records are away
                log.debug("jobs are not measured", extra={"reason": error.detail})
            await asyncio.sleep(_INTERVAL_SECONDS)

    async def measure(self) -> None:
        """Measure once."""
        depth = await self._records.depth()
        metrics = self._metrics
        metrics.show_states(depth.jobs)
        metrics.waiting.set(depth.waiting)
        metrics.leased.set(depth.leased)
        metrics.oldest.set(depth.oldest_seconds or 0.0)
        workers = await self._queue.workers(WORKER_SECONDS)
        metrics.show_workers([worker.operations for worker in workers])
        for name, grown in self._counts.growth(workers).items():
            metrics.images.labels(name).inc(grown)
