"""Opens the object store that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.jobs.objects.base import ObjectStore
from gateway.jobs.objects.folder import FolderObjects
from gateway.jobs.objects.sealed import SealedObjects
from gateway.records.encryption import load_cipher
from gateway.settings import Settings


@asynccontextmanager
async def open_objects(settings: Settings) -> AsyncIterator[SealedObjects]:
    """Open the store of uploaded images until the end of the block.

    It connects to nothing yet: a bucket that is away makes uploads fail, not the start. Raises
    ConfigurationError for settings that cannot be used.
    """
    store = SealedObjects(open_store_as_is(settings), load_cipher(settings))
    try:
        yield store
    finally:
        await store.close()


def open_store_as_is(settings: Settings) -> ObjectStore:
    """Open the store without opening what is sealed in it; raises as `open_objects`."""
    if settings.object_store_url is not None:
        # loaded where a bucket is used
        from gateway.jobs.objects.s3 import open_bucket

        return open_bucket(settings)
    return FolderObjects(
        settings.home / "jobs", min_free_bytes=settings.min_free_disk_megabytes << 20
    )
