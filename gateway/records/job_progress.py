"""How fast jobs proceed, and why their images wait."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import and_, or_, select, text, union_all

from gateway.records.database import Database
from gateway.records.job_tables import JOB_ITEMS, JOB_RESULTS
from gateway.records.job_types import JobRecord

_JOBS_AT_ONCE: Final = 100


class JobProgress:
    """Reads a few rows of each job, however many images it has."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ended_at(
        self, jobs: Sequence[JobRecord], *, back: Sequence[int]
    ) -> dict[str, dict[int, float]]:
        """Return when images ended, by job and by how many ended since.

        Args:
            jobs: as they are now.
            back: how many images before the last one, each.

        """
        found: dict[str, dict[int, float]] = {job.id: {} for job in jobs}
        for start in range(0, len(jobs), _JOBS_AT_ONCE):
            asked = jobs[start : start + _JOBS_AT_ONCE]
            sequences = {job.id: job.sequence for job in asked}
            query = select(
                JOB_RESULTS.c.job_id, JOB_RESULTS.c.sequence, JOB_RESULTS.c.finished_at
            ).where(
                or_(
                    *(
                        and_(
                            JOB_RESULTS.c.job_id == job.id,
                            JOB_RESULTS.c.sequence.in_([job.sequence - each for each in back]),
                        )
                        for job in asked
                    )
                )
            )
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).all()
            for job_id, sequence, finished_at in rows:
                found[job_id][sequences[job_id] - sequence] = finished_at
        return found

    async def delayed(self, job_ids: Sequence[str], *, now: float) -> dict[str, tuple[str, str]]:
        """Return code and detail of an image that waits for another attempt, by job.

        Jobs without such an image are left out.
        """
        found: dict[str, tuple[str, str]] = {}
        for start in range(0, len(job_ids), _JOBS_AT_ONCE):
            # one look into the index for each job: a job may have many images that wait
            parts = [
                select(JOB_ITEMS.c.job_id, JOB_ITEMS.c.code, JOB_ITEMS.c.detail)
                .where(
                    JOB_ITEMS.c.job_id == job_id,
                    # as the index says it
                    text("state <> 'ended'"),
                    JOB_ITEMS.c.state == "queued",
                    JOB_ITEMS.c.available_at > now,
                    JOB_ITEMS.c.code.is_not(None),
                )
                .limit(1)
                .subquery()
                for job_id in job_ids[start : start + _JOBS_AT_ONCE]
            ]
            query = union_all(*(select(part) for part in parts))
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).all()
            found.update((job_id, (code, detail or "")) for job_id, code, detail in rows)
        return found
