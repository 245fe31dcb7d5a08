"""What people want to know of a job beside its record: how fast it proceeds, why it waits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.records.job_types import JobRecord, WorkerRecord

BACK: Final = (0, 8, 32, 128, 512)
"""So many images before the last one that ended, the rate is measured from."""
RECENT_SECONDS: Final = 60.0
"""The rate covers this time at most, and is unknown when no image has ended for as long."""
_SHORTEST_SECONDS: Final = 0.001
_WAITED_FOR: Final = {
    "waiting_for_triton": "Triton is away",
    "waiting_for_images": "the store of images is away",
}
"""By the counter of workers that is 1 meanwhile."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it is shown; images_per_second and seconds_left are None where unknown."""

    record: JobRecord
    images_per_second: float | None = None
    seconds_left: float | None = None
    detail: str | None = None

    @property
    def shown_change(self) -> tuple[object, ...]:
        """Everything but the figures that change all the time."""
        job = self.record
        return job.state, job.total, job.done, job.failed, job.webhook_state, self.detail


def recent_rate(job: JobRecord, ended_at: Mapping[int, float], *, now: float) -> float | None:
    """Return the images per second of late; None unless images are ending.

    ended_at: when images ended, by how many ended since (0 is the last one).
    """
    last = ended_at.get(0)
    if job.state != "running" or last is None or last < now - RECENT_SECONDS:
        return None
    recent = [back for back, at in ended_at.items() if back and at >= now - RECENT_SECONDS]
    if recent:
        images = max(recent)
        since = ended_at[images]
    elif job.started_at is not None and job.started_at >= now - RECENT_SECONDS:
        images, since = job.done + job.failed, job.started_at
    else:
        # slower than a few images in that time
        older = [back for back in ended_at if back]
        if not older:
            return None
        images = min(older)
        since = ended_at[images]
    return images / max(now - since, _SHORTEST_SECONDS)


def make_view(
    job: JobRecord,
    ended_at: Mapping[int, float],
    *,
    workers: Sequence[WorkerRecord],
    delayed: tuple[str, str] | None,
    now: float,
) -> JobView:
    """Describe a job.

    Args:
        job: the record.
        ended_at: see `recent_rate`.
        workers: all that are running.
        delayed: code and detail of an image that waits for another attempt.
        now: seconds since 1970.

    """
    rate = recent_rate(job, ended_at, now=now)
    return JobView(
        job,
        images_per_second=None if rate is None else round(rate, 2),
        seconds_left=round(job.open / rate, 1) if rate else None,
        detail=_detail(job, workers=workers, delayed=delayed),
    )


def _detail(
    job: JobRecord, *, workers: Sequence[WorkerRecord], delayed: tuple[str, str] | None
) -> str | None:
    if job.state == "receiving":
        return "the images are being received"
    if job.state == "paused":
        return "the job is paused; POST …/resume continues it"
    if job.state == "cancelled":
        return f"cancelled with {_images(job.open)} left" if job.open else "cancelled"
    if job.state == "expired":
        return "the results were deleted when their time was over"
    if job.state == "done":
        if not job.failed:
            return None
        return f"{_images(job.failed)} of {job.total} failed; POST …/retry repeats them"
    return _why_it_waits(job, workers, delayed)


def _why_it_waits(
    job: JobRecord, workers: Sequence[WorkerRecord], delayed: tuple[str, str] | None
) -> str | None:
    able = [each for each in workers if not each.operations or job.operation in each.operations]
    if not able:
        return "no worker is running; start one with: aurum serve worker"
    for counter, part in _WAITED_FOR.items():
        if all(each.counters.get(counter) for each in able):
            return f"{part}; {_workers(len(able))} for it"
    if delayed is not None:
        code, detail = delayed
        return f"images wait for another attempt: {code}" + (f" ({detail})" if detail else "")
    return None


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def _workers(number: int) -> str:
    return "the worker waits" if number == 1 else f"all {number} workers wait"
