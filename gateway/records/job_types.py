"""The records of jobs as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Operation = Literal["score", "detect", "embed", "enrol"]
JobState = Literal["receiving", "queued", "running", "paused", "done", "cancelled", "expired"]
WebhookState = Literal["none", "due", "sent", "failed"]
EndedStatus = Literal["ok", "error"]
ItemStatus = Literal["queued", "ok", "error", "cancelled"]

MAX_NUMBER: Final = (1 << 31) - 1
"""Largest index or sequence that PostgreSQL compares."""
ACTIVE_STATES: Final = ("queued", "running")
"""States of jobs whose images workers may claim."""
UNFINISHED_STATES: Final = ("queued", "running", "paused")
"""States of jobs whose leased images may still end."""
RECEIVING_SECONDS: Final = 3600.0
"""How long after its last image a job that is being received counts as abandoned."""
IDLE_SECONDS: Final = 7 * 86_400.0
"""A job that is paused, or that no worker takes up, is cancelled when nothing happened to it for so
long: it is submitted, paused, resumed or retried, or one of its images ends."""
RETENTION_SECONDS: Final = 86_400.0
"""How long results are kept after the end of a job, unless its creator says otherwise."""
MAX_ATTEMPTS: Final = 5
"""After so many claims, an image whose worker ended again ends as an error."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job of many images; times are seconds since 1970.

    done, failed: images that ended well, with an error. skipped: files of an archive that are no
    images. sequence: number of the last event; each image that ends is one. retention_seconds: how
    long results are kept after the end. expires_at: until when they are kept; of an unfinished
    job, when it is cancelled unless something happens; of one that is being received, when it
    counts as abandoned. webhook_at: when the webhook is due.
    """

    id: str
    tenant: str
    actor: str
    operation: Operation
    created_at: float
    options: Mapping[str, Any] = field(default_factory=dict)
    collection_id: str | None = None
    collection: str | None = None
    state: JobState = "receiving"
    total: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    sequence: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    expires_at: float | None = None
    retention_seconds: float = RETENTION_SECONDS
    webhook_url: str | None = None
    webhook_state: WebhookState = "none"
    webhook_attempts: int = 0
    webhook_at: float | None = None

    @property
    def open(self) -> int:
        """Number of images that have not ended."""
        return self.total - self.done - self.failed

    @property
    def is_finished(self) -> bool:
        """Whether nothing will happen to the job's images any more, unless somebody retries it."""
        return self.state in ("done", "cancelled", "expired")


@dataclass(frozen=True, slots=True)
class NewItem:
    """An image of a job that is being received.

    code, detail: the image was refused on receipt (it is too large, say), so that it ends at once
    as an error; then object_key is None, and a retry of the job leaves it out.
    """

    index: int
    name: str
    sha256: str
    object_key: str | None
    size: int
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class LeasedItem:
    """An image that a worker holds until its lease runs out.

    job: as it was at the claim. lease: fencing number; only its holder may end the image.
    attempts: claims so far, this one included. lost: how often a worker ended while it held this
    image.
    """

    job: JobRecord
    index: int
    name: str
    sha256: str
    object_key: str
    lease: int
    attempts: int
    lost: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """Job id and index."""
        return self.job.id, self.index


@dataclass(frozen=True, slots=True)
class SealedResult:
    """An encrypted answer (JSON)."""

    key_id: str
    nonce: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """How an image ends: `ok` with a result, `error` with a code and a sentence."""

    status: EndedStatus
    result: SealedResult | None = None
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """An image of a job as clients see it.

    status: `queued` until it ends (leased or not), `cancelled` if the job was cancelled before.
    code, detail: of an error; of a queued image, why its last attempt failed. sequence and
    finished_at are None until it ends.
    """

    index: int
    name: str
    status: ItemStatus
    code: str | None
    detail: str | None
    result: SealedResult | None
    sequence: int | None
    finished_at: float | None
    attempts: int


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker's heartbeat.

    concurrency: images at once. operations: what it can do. counters: since its start.
    """

    name: str
    host: str
    pid: int
    started_at: float
    seen_at: float
    concurrency: int
    operations: tuple[str, ...] = ()
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobDepth:
    """How much is waiting, of all tenants.

    waiting: images of queued and running jobs that no worker holds. leased: images that workers
    hold. oldest_seconds: age of the oldest job with a waiting image; None if none waits. jobs:
    number by state.
    """

    waiting: int
    leased: int
    oldest_seconds: float | None
    jobs: Mapping[str, int]
