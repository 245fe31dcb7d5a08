"""Takes the images out of an uploaded archive, one at a time, off the event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from threading import Event
from typing import IO, Final

from gateway.archives.image_names import is_hidden, is_image_name
from gateway.archives.reader import read_members
from gateway.archives.types import (
    Fault,
    ImageMember,
    Limits,
    Member,
    OtherMember,
    RefusedMember,
)
from gateway.concurrency import BackgroundTasks
from gateway.errors import ImageTooLargeError, InvalidImageError, InvalidRequestError

_OTHERS_PER_IMAGE: Final = 3
"""Files in an archive beside each image: macOS adds one, cameras and tools another."""
_FREE_OTHERS: Final = 10_000
_SHOWN: Final = 200
"""Most characters of a member's name in a refusal."""


@dataclass(frozen=True, slots=True)
class TooLargeMember:
    """An image with more bytes than an image may have."""

    name: str


class _InterruptedError(Exception):
    """Nobody waits for the contents of the archive any more."""


class _Interruptible:
    """A file that raises once nobody waits: an archive may keep its reader busy for minutes."""

    def __init__(self, file: IO[bytes], stopped: Event) -> None:
        self._file = file
        self._stopped = stopped
        self.tell, self.seekable = file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        self._check()
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move on."""
        self._check()
        return self._file.seek(offset, whence)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise _InterruptedError


def limits_of(*, image_bytes: int, images: int, total_bytes: int) -> Limits:
    """Return what an archive of a job may cost."""
    return Limits(
        member_bytes=image_bytes,
        members=_OTHERS_PER_IMAGE * images + _FREE_OTHERS,
        most_bytes=total_bytes,
    )


async def unpack(
    file: IO[bytes], name: str | None, limits: Limits
) -> AsyncIterator[ImageMember | OtherMember | TooLargeMember]:
    """Yield the members of an archive; `name` is that of its file, if it has one.

    Raises:
        InvalidRequestError: a member, or the archive as a whole, is made to harm.
        InvalidImageError: the archive, or a member of it, is damaged.
        ImageTooLargeError: the archive unpacks to more than an upload may have.

    """
    stopped = Event()
    # the readers only read and seek
    members = read_members(_Interruptible(file, stopped), limits)  # type: ignore[arg-type]
    steps = BackgroundTasks()
    try:
        while (member := await _next_of(members, steps)) is not None:
            if isinstance(member, RefusedMember):
                yield _judge(member, name)
            else:
                yield member
    finally:
        stopped.set()


async def _next_of(members: Iterator[Member], steps: BackgroundTasks) -> Member | None:
    # if the upload is cancelled, the thread stops at its next read
    step = steps.detach("unpack", asyncio.to_thread(next, members, None))
    return await asyncio.shield(step)


def _judge(member: RefusedMember, archive: str | None) -> OtherMember | TooLargeMember:
    """Let an image that is too large fail alone; refuse the upload for everything else."""
    if member.fault is Fault.TOO_LARGE and member.name is not None:
        if is_hidden(member.name) or not is_image_name(member.name):
            return OtherMember(member.name, member.weight)
        return TooLargeMember(member.name)
    where = "the archive" if archive is None else f"the archive {archive[:_SHOWN]!r}"
    if member.name is None:
        message = f"{where}: {member.reason}"
    else:
        message = f"{where}: member {member.name[:_SHOWN]!r} {member.reason}"
    if member.fault is Fault.DAMAGED:
        raise InvalidImageError(message)
    if member.fault is Fault.TOO_LARGE:
        raise ImageTooLargeError(message)
    raise InvalidRequestError(message)
