"""What a layer of the cache promises.

The values of an image lie in one entry, so that an image is forgotten in one step. An entry expires
as a whole, counted from its first value.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

Failure = Literal["error", "timeout", "refused"]
"""The layer failed, was too slow, or was not asked because it failed just before."""


class CacheError(Exception):
    """A layer failed; it costs a miss and nothing else."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure: Failure = failure


class Cache(Protocol):
    """One layer. `image`: name of its entry (`keys.entry_name`); `field`: what was asked of it."""

    async def get(self, image: str, fields: Sequence[str]) -> Mapping[str, bytes]:
        """Return those of the fields that are kept. Raises CacheError."""

    async def set(self, image: str, field: str, value: bytes) -> None:
        """Keep a value; a larger one than the layer holds is not kept. Raises CacheError."""

    async def forget(self, image: str) -> int:
        """Drop the entry of an image; return how many values were in it. Raises CacheError."""

    async def health(self) -> str | None:
        """Give the reason why the layer does not answer; None if it does."""

    async def close(self) -> None:
        """Close connections."""
