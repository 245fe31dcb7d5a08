"""Anchors of the audit log as objects of a bucket, which may forbid changing and deleting them."""

from collections.abc import Sequence
from typing import Final

from gateway.jobs.objects.line_bucket import LineBucket
from gateway.records.audit import Head
from gateway.records.audit_anchor import Anchor, read_anchors, write_anchor
from gateway.settings import Settings

VARIABLE: Final = "AURUM_AUDIT_ANCHOR_URL"
_SUFFIX: Final = ".anchor"


class AnchorBucket:
    """Writes one object for each anchor, named by the line: nothing is ever overwritten."""

    def __init__(self, objects: LineBucket) -> None:
        self._objects = objects

    @classmethod
    def open(cls, settings: Settings, url: str) -> "AnchorBucket":
        """Open the bucket of a URL; raises ConfigurationError."""
        return cls(LineBucket.open(settings, url, suffix=_SUFFIX, variable=VARIABLE))

    async def put(self, head: Head) -> None:
        """Write a head; raises JobsUnavailableError."""
        await self._objects.put(f"{head.line:016d}-{head.hash[:16]}", write_anchor(head))

    async def read(self) -> Sequence[Anchor]:
        """Return all anchors; raises JobsUnavailableError, ConfigurationError for a malformed one.

        Each list and each object has the time limit of a call.
        """
        return tuple(read_anchors(await self._objects.read()))
