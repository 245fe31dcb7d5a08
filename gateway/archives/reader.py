"""Reads images out of zip and tar archives, member by member; nothing is written to the disk.

An archive comes from anywhere: links, paths that climb out, archives within archives and contents
that are far larger than the archive are refused.
"""

import os
from collections.abc import Iterator
from typing import IO, Final

from gateway.archives.damage import DAMAGED
from gateway.archives.tars import GZIP_MARK, TAR_MARK, TAR_MARK_AT, read_tar
from gateway.archives.types import (
    DEFAULT_LIMITS,
    BombError,
    Fault,
    Limits,
    Member,
    RefusedMember,
    UnpacksTooFarError,
)
from gateway.archives.zips import ZIP_MARKS, read_zip

_TAR: Final = slice(TAR_MARK_AT, TAR_MARK_AT + len(TAR_MARK))
ARCHIVE_HEAD_BYTES: Final = _TAR.stop
_OTHERS: Final = (b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a")


def is_archive(head: bytes) -> bool:
    """Whether a file that begins so (`ARCHIVE_HEAD_BYTES` of it) is a zip, tar or gzip file."""
    return head.startswith((*ZIP_MARKS, GZIP_MARK)) or head[_TAR] == TAR_MARK


def is_other_archive(head: bytes) -> bool:
    """Whether a file that begins so is an archive of a kind that is not read."""
    return head.startswith(_OTHERS)


def read_members(file: IO[bytes], limits: Limits = DEFAULT_LIMITS) -> Iterator[Member]:
    """Yield the members of a zip, tar or tar.gz in their order.

    Holds one member at a time. A damaged or malicious archive ends with a `RefusedMember` without
    a name; what comes before it is read.
    """
    size = 0
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(4)
        file.seek(0)
        read = read_zip if head.startswith(ZIP_MARKS) else read_tar
        yield from read(file, limits, limits.total_bytes(size))
    except UnpacksTooFarError:
        if limits.is_capped(size):
            reason = f"it unpacks to more than {limits.most_bytes:,} bytes"
            yield RefusedMember(None, reason, Fault.TOO_LARGE)
        else:
            reason = "archive refused: it unpacks to many times its size"
            yield RefusedMember(None, reason, Fault.HOSTILE)
    except BombError as error:
        yield RefusedMember(None, f"archive refused: {error}", Fault.HOSTILE)
    except DAMAGED as error:
        reason = str(error) or type(error).__name__
        yield RefusedMember(None, f"the archive is damaged: {reason}", Fault.DAMAGED)
