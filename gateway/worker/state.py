"""What a worker is and has done since it started, for its heartbeat."""

from dataclasses import asdict, dataclass, field

from gateway.records.job_types import Operation
from gateway.worker.slots import Slots
from gateway.worker.upstream import Upstream


@dataclass(slots=True)
class Counters:
    """Numbers of images, and seconds.

    ok, failed: ended. retried: given back for a later attempt. dead: failed after the last attempt.
    dropped: results that came too late, because the job was cancelled or the lease had run out.
    seconds: spent on answers.
    """

    ok: int = 0
    failed: int = 0
    retried: int = 0
    dead: int = 0
    dropped: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Gates of what images need."""

    triton: Upstream
    images: Upstream
    collections: Upstream


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker as its parts share it; name: in leases and heartbeats."""

    name: str
    operations: tuple[Operation, ...]
    upstreams: Upstreams
    slots: Slots = field(default_factory=lambda: Slots(1))
    counters: Counters = field(default_factory=Counters)

    def numbers(self) -> dict[str, float]:
        """Return the counters by name, and what is waited for: 1 while it is away."""
        return {
            **asdict(self.counters),
            "waiting_for_triton": int(self.upstreams.triton.is_away),
            "waiting_for_images": int(self.upstreams.images.is_away),
        }
