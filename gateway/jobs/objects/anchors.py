"""Anchors of the audit log as objects of a bucket, which may forbid changing and deleting them."""

import asyncio
from collections.abc import Sequence
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from gateway.errors import JobsUnavailableError
from gateway.jobs.objects.s3 import open_store
from gateway.records.audit import Head
from gateway.records.audit_anchor import Anchor, read_anchors, write_anchor
from gateway.settings import Settings

VARIABLE: Final = "AURUM_AUDIT_ANCHOR_URL"
_SUFFIX: Final = ".anchor"


class AnchorBucket:
    """Writes one object for each anchor, named by the line: nothing is ever overwritten."""

    def __init__(self, store: S3Store, *, timeout_seconds: float) -> None:
        """Use a bucket; each call has `timeout_seconds`."""
        self._store = store
        self._timeout_seconds = timeout_seconds

    @classmethod
    def open(cls, settings: Settings, url: str) -> "AnchorBucket":
        """Open the bucket of a URL; raises ConfigurationError."""
        store = open_store(settings, url, VARIABLE)
        return cls(store, timeout_seconds=settings.object_store_timeout_seconds)

    async def put(self, head: Head) -> None:
        """Write a head; raises JobsUnavailableError."""
        name = f"{head.line:016d}-{head.hash[:16]}{_SUFFIX}"
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await obstore.put_async(self._store, name, write_anchor(head), use_multipart=False)
        except (BaseError, OSError, ValueError) as error:
            # TimeoutError is an OSError; its text names the address
            raise _unavailable(error) from None

    async def read(self) -> Sequence[Anchor]:
        """Return all anchors; raises JobsUnavailableError, ConfigurationError for a malformed one.

        Each list and each object has `timeout_seconds`.
        """
        found: list[tuple[bytes, str]] = []
        pages = obstore.list(self._store)
        try:
            while True:
                async with asyncio.timeout(self._timeout_seconds):
                    page = await anext(pages, None)
                if page is None:
                    return tuple(read_anchors(found))
                for each in page:
                    name = each["path"]
                    if not name.endswith(_SUFFIX):
                        continue
                    async with asyncio.timeout(self._timeout_seconds):
                        got = await obstore.get_async(self._store, name)
                        found.append((bytes(await got.bytes_async()), name))
        except (BaseError, OSError) as error:
            raise _unavailable(error) from None


def _unavailable(error: Exception) -> JobsUnavailableError:
    return JobsUnavailableError(f"the bucket of {VARIABLE} failed: {type(error).__name__}")
