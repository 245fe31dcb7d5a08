"""Objects in an S3 bucket, of AWS or of any server that speaks its protocol."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from gateway.errors import ConfigurationError, JobsUnavailableError
from gateway.jobs.objects.base import ObjectMissingError, check_job_id, is_key, job_of
from gateway.settings import Settings

if TYPE_CHECKING:
    from obstore.store import S3Config

log = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 3.0
_RETRIES: Final = 2
_RETRY_AFTER_SECONDS: Final = 5
_DELETE_AT_ONCE: Final = 1000
"""Most keys of one call that deletes; a limit of S3."""
_NO_KEY: Final = "<Code>NoSuchKey</Code>"
_NO_JOB: Final = "0"
"""A prefix below which nothing lies: listing it shows that the bucket answers."""


class S3Objects:
    """An `ObjectStore` in a bucket; what a call wrote is durable when it returns."""

    def __init__(self, store: S3Store, *, timeout_seconds: float) -> None:
        """Use a store of `open_bucket`; each call has `timeout_seconds`, retries included."""
        self._store = store
        self._timeout_seconds = timeout_seconds

    async def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore.put`."""
        job_of(key)
        async with self._call("put"):
            await obstore.put_async(self._store, key, data, use_multipart=False)

    async def flush(self, job_id: str) -> None:
        """See `ObjectStore.flush`."""

    async def get(self, key: str) -> bytes:
        """See `ObjectStore.get`."""
        job_of(key)
        try:
            async with self._call("get"):
                found = await obstore.get_async(self._store, key)
                return bytes(await found.bytes_async())
        except FileNotFoundError:
            raise ObjectMissingError(key) from None

    async def start(self, key: str, size: int) -> bytes:
        """See `ObjectStore.start`."""
        job_of(key)
        try:
            async with self._call("get"):
                found = await obstore.get_range_async(self._store, key, start=0, length=size)
                return bytes(found)
        except FileNotFoundError:
            raise ObjectMissingError(key) from None

    async def keys(self, job_id: str) -> Collection[str]:
        """See `ObjectStore.keys`."""
        pages = obstore.list(self._store, check_job_id(job_id), chunk_size=_DELETE_AT_ONCE)
        found: list[str] = []
        while True:
            async with self._call("list"):
                page = await anext(pages, None)
            if page is None:
                return sorted(filter(is_key, found))
            found += (each["path"] for each in page)

    async def delete(self, keys: Iterable[str]) -> None:
        """See `ObjectStore.delete`."""
        left = iter([key for key in keys if job_of(key)])
        while some := list(itertools.islice(left, _DELETE_AT_ONCE)):
            async with self._call("delete"):
                await obstore.delete_async(self._store, some)

    async def delete_job(self, job_id: str) -> None:
        """See `ObjectStore.delete_job`."""
        pages = obstore.list(self._store, check_job_id(job_id), chunk_size=_DELETE_AT_ONCE)
        while True:
            async with self._call("list"):
                page = await anext(pages, None)
            if page is None:
                return
            await self.delete(each["path"] for each in page)

    async def jobs(self) -> Collection[str]:
        """See `ObjectStore.jobs`."""
        async with self._call("list"):
            found = await obstore.list_with_delimiter_async(self._store)
        return sorted(prefix.strip("/") for prefix in found["common_prefixes"])

    async def health(self) -> None:
        """See `ObjectStore.health`."""
        async with self._call("list"):
            await anext(obstore.list(self._store, _NO_JOB), None)

    async def close(self) -> None:
        """See `ObjectStore.close`."""

    @asynccontextmanager
    async def _call(self, operation: str) -> AsyncIterator[None]:
        """Bound a call in time; its failures name neither the address nor credentials."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except FileNotFoundError as error:
            if _NO_KEY in str(error):
                raise
            # no such bucket, or something else than S3 answers
            raise self._unavailable(operation, "not found") from None
        except (BaseError, OSError, ValueError) as error:
            # TimeoutError is an OSError
            raise self._unavailable(operation, type(error).__name__) from None

    def _unavailable(self, operation: str, reason: str) -> JobsUnavailableError:
        log.warning("the object store failed", extra={"operation": operation, "error": reason})
        return JobsUnavailableError(
            "the store of uploaded images cannot be reached",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )


def open_bucket(settings: Settings) -> S3Objects:
    """Open the bucket that the settings name; connects to nothing yet.

    Raises ConfigurationError that names the wrong variable.
    """
    store = open_store(settings, settings.object_store_url or "", "AURUM_OBJECT_STORE_URL")
    return S3Objects(store, timeout_seconds=settings.object_store_timeout_seconds)


def open_store(settings: Settings, url: str, variable: str) -> S3Store:
    """Open a bucket by its URL, the value of `variable`; raises as `open_bucket`."""
    address = urlsplit(url)
    if address.scheme != "s3" or not address.netloc or "@" in address.netloc:
        raise ConfigurationError(f"{variable}: use s3://bucket or s3://bucket/prefix")
    key_id, secret = settings.object_store_key_id, settings.object_store_secret
    if (key_id is None) != (secret is None):
        missing = "KEY_ID" if key_id is None else "SECRET"
        raise ConfigurationError(
            f"AURUM_OBJECT_STORE_{missing}: set both parts of the key, or none"
        )
    config: S3Config = {"region": settings.object_store_region}
    if settings.object_store_endpoint is not None:
        if urlsplit(settings.object_store_endpoint).scheme not in ("http", "https"):
            raise ConfigurationError("AURUM_OBJECT_STORE_ENDPOINT: use http://… or https://…")
        config["endpoint"] = settings.object_store_endpoint.rstrip("/")
        config["virtual_hosted_style_request"] = False
    if key_id is not None and secret is not None:
        config["access_key_id"] = key_id
        config["secret_access_key"] = secret.get_secret_value()
    seconds = settings.object_store_timeout_seconds
    return S3Store(
        address.netloc,
        prefix=address.path.strip("/") or None,
        config=config,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, seconds)),
            "timeout": timedelta(seconds=seconds),
        },
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=seconds),
            "backoff": {
                "init_backoff": timedelta(milliseconds=100),
                "max_backoff": timedelta(seconds=1),
                "base": 2,
            },
        },
    )
