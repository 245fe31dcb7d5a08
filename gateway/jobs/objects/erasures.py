"""The register of erasures as objects of a bucket, and where the settings want it."""

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.errors import JobsUnavailableError, StorageUnavailableError
from gateway.records.audit import ChainKeys
from gateway.records.audit_keys import load_audit_keys
from gateway.records.erasure_register import (
    ErasureRegister,
    FileRegister,
    Mark,
    register_file,
    write_lines,
)
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.jobs.objects.line_bucket import LineBucket

VARIABLE: Final = "AURUM_ERASURE_REGISTER_URL"
_SUFFIX: Final = ".erasures"


class BucketRegister:
    """An `ErasureRegister` that writes one object for each erasure."""

    def __init__(self, objects: "LineBucket", keys: ChainKeys) -> None:
        self._objects = objects
        self._keys = keys

    async def note(self, marks: Sequence[Mark]) -> None:
        """See `ErasureRegister.note`."""
        if not marks:
            return
        name = f"{time.time():017.6f}-{uuid.uuid4()}"
        try:
            await self._objects.put(name, write_lines(marks, self._keys))
        except JobsUnavailableError as error:
            retry = error.retry_after_seconds
            raise StorageUnavailableError(error.detail, retry_after_seconds=retry) from None


def open_bucket_of_erasures(settings: Settings, url: str) -> "LineBucket":
    """Open the bucket of registers; raises ConfigurationError."""
    # loaded where a bucket is used
    from gateway.jobs.objects.line_bucket import LineBucket

    return LineBucket.open(settings, url, suffix=_SUFFIX, variable=VARIABLE)


def open_register(settings: Settings) -> ErasureRegister:
    """Open the register that the settings name; raises ConfigurationError."""
    keys = load_audit_keys(settings)
    if settings.erasure_register_url is None:
        return FileRegister(register_file(settings), keys)
    return BucketRegister(open_bucket_of_erasures(settings, settings.erasure_register_url), keys)
