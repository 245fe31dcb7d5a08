"""Small objects of a bucket, each written once: lines that nobody shall change or delete."""

import asyncio
from collections.abc import Sequence
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from gateway.errors import JobsUnavailableError
from gateway.jobs.objects.s3 import open_store
from gateway.settings import Settings

_RETRY_AFTER_SECONDS: Final = 5


class LineBucket:
    """Objects with one suffix below the URL of a bucket."""

    def __init__(
        self, store: S3Store, *, suffix: str, variable: str, timeout_seconds: float
    ) -> None:
        """Use a bucket, which `variable` names; each call has `timeout_seconds`."""
        self._store = store
        self._suffix = suffix
        self._variable = variable
        self._timeout_seconds = timeout_seconds

    @classmethod
    def open(cls, settings: Settings, url: str, *, suffix: str, variable: str) -> "LineBucket":
        """Open the bucket of a URL, the value of `variable`; raises ConfigurationError."""
        return cls(
            open_store(settings, url, variable),
            suffix=suffix,
            variable=variable,
            timeout_seconds=settings.object_store_timeout_seconds,
        )

    async def put(self, name: str, data: bytes) -> None:
        """Write an object, without its suffix in `name`; raises JobsUnavailableError."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await obstore.put_async(self._store, name + self._suffix, data, use_multipart=False)
        except (BaseError, OSError, ValueError) as error:
            # TimeoutError is an OSError; its text names the address
            raise self._unavailable(error) from None

    async def read(self) -> Sequence[tuple[bytes, str]]:
        """Return contents and names of all objects; raises JobsUnavailableError.

        Each list and each object has `timeout_seconds`.
        """
        found: list[tuple[bytes, str]] = []
        pages = obstore.list(self._store)
        try:
            while True:
                async with asyncio.timeout(self._timeout_seconds):
                    page = await anext(pages, None)
                if page is None:
                    return found
                for each in page:
                    name = each["path"]
                    if not name.endswith(self._suffix):
                        continue
                    async with asyncio.timeout(self._timeout_seconds):
                        got = await obstore.get_async(self._store, name)
                        found.append((bytes(await got.bytes_async()), name))
        except (BaseError, OSError) as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: Exception) -> JobsUnavailableError:
        return JobsUnavailableError(
            f"the bucket of {self._variable} failed: {type(error).__name__}",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )
