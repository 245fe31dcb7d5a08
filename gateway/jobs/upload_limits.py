"""What an upload may contain: its limits, the names of images, images from URLs."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.errors import ImageUrlFailedError
from gateway.images import ImageLimits
from gateway.outbound.images import ImageFetcher
from gateway.outbound.memory import Budget, Held

MEGABYTE: Final = 1 << 20
_MAX_NAME: Final = 1000


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of each image, of their number, and of the bytes of all together."""

    image: ImageLimits
    images: int
    total_bytes: int


def too_many_megabytes(limit: int) -> str:
    """Describe an upload of more than `limit` bytes."""
    return f"the upload of a job may have {limit // MEGABYTE} megabytes at most"


def clean_name(name: str | None, index: int) -> str:
    """Return a name that every database can store; an image without one is named by its place."""
    if not name:
        return f"image-{index}"
    text = name.encode("utf-8", "replace").decode().replace("\0", "")
    return text[-_MAX_NAME:]


@asynccontextmanager
async def fetched(
    fetcher: ImageFetcher, budget: Budget, url: str, tenant: str, *, until: float
) -> AsyncIterator[bytes]:
    """Fetch an image, whose bytes count against the budget until the end of the block.

    until: on the monotonic clock. Raises as `ImageFetcher.fetch`.
    """
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise ImageUrlFailedError("the time for fetching the images of this job is over")
    memory = Held(budget)
    try:
        yield await fetcher.fetch(url, tenant=tenant, seconds=seconds, memory=memory)
    finally:
        memory.release()
