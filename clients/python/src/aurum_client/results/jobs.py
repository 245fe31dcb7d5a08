"""Jobs, their images and events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Optional, Union

from aurum_client.results.collections import Enrolment
from aurum_client.results.faces import FacesResult

FINISHED = frozenset({"done", "cancelled", "expired"})
"""States that a job does not leave by itself; `retry` queues failed images again."""


@dataclass(frozen=True)
class Webhook:
    """Delivery of the notification that the job has ended."""

    state: str
    """`none` until the job ends, `due` until it was delivered, then `sent` or `failed`."""
    attempts: int


@dataclass(frozen=True)
class Job:
    """A job; `done` + `failed` images have ended."""

    job_id: str
    operation: str
    """`score`, `detect`, `embed` or `enrol`."""
    state: str
    """`receiving`, `queued`, `running`, `paused`, `done`, `cancelled` or `expired`."""
    total: int
    """Number of images."""
    done: int
    """Images with a result."""
    failed: int
    """Images that ended with an error."""
    skipped: int
    """Files in archives that are no images."""
    created_at: datetime
    started_at: Optional[datetime]
    finished_at: Optional[datetime]
    expires_at: Optional[datetime]
    """When the job and its results are deleted; None until it ends."""
    images_per_second: Optional[float]
    """Recent rate; None unless images are ending."""
    seconds_left: Optional[float]
    """Remaining time at that rate; None if unknown."""
    detail: Optional[str]
    """Why the job waits, or how it ended."""
    collection: Optional[str]
    """The collection of an enrolment."""
    webhook: Optional[Webhook]
    """None for a job without a webhook."""
    request_id: Optional[str] = None
    """None for an entry of a list and in events."""

    @property
    def is_finished(self) -> bool:
        """Whether no image of the job will be processed unless it is retried."""
        return self.state in FINISHED


@dataclass(frozen=True)
class JobPage:
    """A page of jobs, newest first."""

    request_id: str
    next_cursor: Optional[str]
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class ItemError:
    """Why an image has no result; the codes are those of `ProblemError`."""

    code: str
    detail: str


@dataclass(frozen=True)
class JobItem:
    """One image of a job."""

    index: int
    """Position in the upload, from 0."""
    name: str
    """File name that was sent."""
    status: str
    """`queued`, `ok`, `error` or `cancelled`."""
    result: Optional[Union[FacesResult, Enrolment]] = None
    """Result of the operation, if `status` is `ok`; an `Enrolment` for operation `enrol`."""
    error: Optional[ItemError] = None
    """If `status` is `error`; if it is `queued`, the error of the last attempt."""


@dataclass(frozen=True)
class JobItemPage:
    """A page of a job's images, in the order of the upload."""

    request_id: str
    next_cursor: Optional[str]
    job_id: str
    results: tuple[JobItem, ...]


@dataclass(frozen=True)
class JobEvent:
    """An event of a job: an image that ended, or the job after its state or counts changed."""

    id: Optional[str]
    """Position in the stream, for `last_event_id`; None for some changes of the job."""
    item: Optional[JobItem] = None
    job: Optional[Job] = None
