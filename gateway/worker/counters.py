"""What a worker has done since it started, for its heartbeat."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Numbers of images, and seconds.

    ok, failed: ended. retried: given back for a later attempt. dead: failed after the last attempt.
    dropped: results that came too late, because the job was cancelled or the lease had run out.
    seconds: spent on answers. waiting_for_triton, waiting_for_images: 1 while that is away.
    """

    ok: int = 0
    failed: int = 0
    retried: int = 0
    dead: int = 0
    dropped: int = 0
    seconds: float = 0.0
    waiting_for_triton: int = 0
    waiting_for_images: int = 0

    def as_mapping(self) -> dict[str, float]:
        """Return them by name."""
        return asdict(self)
