"""The interface of the object store, and the keys of its objects."""

import re
from collections.abc import Collection, Iterable
from typing import Final, Protocol

_JOB_ID: Final = re.compile(r"[0-9a-f-]{1,64}")
_KEY: Final = re.compile(r"([0-9a-f-]{1,64})/(\d{6,9})")


class ObjectMissingError(Exception):
    """There is no object with this key: it was deleted, or its job has expired."""


def object_key(job_id: str, index: int) -> str:
    """Return the key of an image of a job; it is also the name under which it is sealed."""
    return f"{job_id}/{index:06d}"


def job_of(key: str) -> str:
    """Return the job of a key; raises ValueError for a text that is no key."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError(f"not the key of an object: {key[:100]!r}")
    return found[1]


def is_key(text: str) -> bool:
    """Whether a text is the key of an object."""
    return _KEY.fullmatch(text) is not None


def check_job_id(job_id: str) -> str:
    """Return the id of a job; raises ValueError for one that no job can have."""
    if not _JOB_ID.fullmatch(job_id):
        raise ValueError(f"not the id of a job: {job_id[:100]!r}")
    return job_id


class ObjectStore(Protocol):
    """Stores the images of jobs until they are worked on.

    All methods raise JobsUnavailableError when the store cannot be reached in time.
    """

    async def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key of `object_key`; replaces what is there.

        Raises InsufficientStorageError when the disk is nearly full.
        """
        ...

    async def flush(self, job_id: str) -> None:
        """Return when all that was put for a job survives a crash of the machine."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes.

        Raises:
            ObjectMissingError: there is no such object.
            ConfigurationError: it was sealed with another key, or changed.

        """
        ...

    async def start(self, key: str, size: int) -> bytes:
        """Return the first `size` bytes, or all of fewer; raises ObjectMissingError."""
        ...

    async def keys(self, job_id: str) -> Collection[str]:
        """Return the keys of all objects of a job, sorted."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key without an object is fine."""
        ...

    async def delete_job(self, job_id: str) -> None:
        """Delete all objects of a job."""
        ...

    async def jobs(self) -> Collection[str]:
        """Return the ids of the jobs that have objects, for the sweep of what was abandoned.

        A bucket may name a job for a while after its last object was deleted.
        """
        ...

    async def health(self) -> None:
        """Return when the store answers; raises JobsUnavailableError otherwise."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
