"""Deletes what nobody needs any more: results, images and records of jobs whose time is over.

Any number of gateways may do it at once: everything is deleted by id, and deleting twice is
harmless.
"""

import logging
from collections.abc import Collection
from typing import Final

from gateway.errors import AurumError
from gateway.jobs.service import Jobs
from gateway.records import clock

FORGET_SECONDS: Final = 7 * 86_400.0
"""How long the record of an expired job is kept, so that its owner learns what became of it."""
_LOOKED_UP_AT_ONCE: Final = 500
log = logging.getLogger(__name__)


class Housekeeping:
    """Runs every few minutes."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._unneeded: frozenset[str] = frozenset()
        """Jobs whose objects nobody needed the last time."""

    async def run(self) -> None:
        """Do it once; a store that is away gets its turn the next time."""
        try:
            await self._expire()
            await self._sweep()
        except AurumError as error:
            log.warning("housekeeping of jobs is incomplete", extra={"reason": error.detail})

    async def _expire(self) -> None:
        records, now = self._jobs.records.jobs, clock.now()
        expired = await records.expire(now)
        for job_id in expired:
            await self._jobs.objects.delete_job(job_id)
        forgotten = await records.forget(now - FORGET_SECONDS)
        if expired or forgotten:
            log.info("jobs expired", extra={"expired": len(expired), "forgotten": forgotten})

    async def _sweep(self) -> None:
        """Delete the objects of jobs that do not need them.

        Those of uploads that broke off, cancelled jobs whose images were not deleted at once, and
        jobs that were removed from a database that was restored. Only what was unneeded the last
        time, too: an upload may store its first image before its record can be read.
        """
        stored = sorted(await self._jobs.objects.jobs())
        unneeded: set[str] = set()
        for start in range(0, len(stored), _LOOKED_UP_AT_ONCE):
            asked = stored[start : start + _LOOKED_UP_AT_ONCE]
            unneeded |= set(asked) - await self._needed(asked)
        for job_id in sorted(unneeded & self._unneeded):
            await self._jobs.objects.delete_job(job_id)
            log.info("images without a job were deleted", extra={"job_id": job_id})
        self._unneeded = frozenset(unneeded)

    async def _needed(self, job_ids: Collection[str]) -> set[str]:
        return await self._jobs.records.jobs.needing_objects(job_ids)
