"""Reads zip files member by member."""

import stat
import zipfile
from collections.abc import Iterator
from typing import IO, Final

from gateway.archives.checks import (
    ENCRYPTED,
    LINK,
    SPECIAL,
    Refusal,
    read_image,
    refuse_path,
    refuse_size,
)
from gateway.archives.damage import DAMAGED
from gateway.archives.image_names import is_hidden
from gateway.archives.types import (
    BombError,
    Fault,
    ImageMember,
    Limits,
    Member,
    OtherMember,
    RefusedMember,
    text_of,
)

ZIP_MARKS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_ENTRY: Final = b"PK\x01\x02"
_ENTRY_BYTES: Final = 46
"""Bytes of an entry of the directory, before its name, its extra fields and its comment, in this
order, whose lengths are at `_LENGTHS`."""
_LENGTHS: Final = (28, 30, 32)
_MAX_EXTRA_BYTES: Final = 8192
"""Most bytes of an entry's extra fields, which `zipfile` copies once for each field in them."""
_READ: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compressions whose unpacking `zipfile` can stop; of bzip2 and LZMA it unpacks all that 4 KB
hold, which may be gigabytes."""
_MEAN_ENTRY_BYTES: Final = 1024
_FREE_DIRECTORY_BYTES: Final = 1 << 20


def read_zip(file: IO[bytes], limits: Limits, most: int) -> Iterator[Member]:
    """Yield the members, `most` bytes of images at most; raises as `zipfile`, and BombError."""
    directory = _Directory(file, limits)
    with zipfile.ZipFile(directory) as archive:
        directory.is_open = True
        left = most
        for info in archive.infolist():
            # a damaged entry may have no name
            if not info.filename or info.is_dir():
                continue
            found = _read(archive, info, limits, left)
            if isinstance(found, ImageMember):
                left -= len(found.data)
            yield found


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limits: Limits, left: int) -> Member:
    weight, name = info.compress_size, text_of(info.filename)
    refusal = refuse_path(info.filename) or _refuse(info, limits)
    if refusal is not None:
        fault, reason = refusal
        return RefusedMember(name, reason, fault, weight)
    if is_hidden(info.filename):
        return OtherMember(name, weight)
    try:
        with archive.open(info) as opened:
            data = read_image(opened, name, min(limits.member_bytes, left))
    except DAMAGED as error:
        return RefusedMember(name, f"cannot be unpacked: {error}", Fault.DAMAGED, weight)
    return OtherMember(name, weight) if data is None else ImageMember(name, data, weight)


def _refuse(info: zipfile.ZipInfo, limits: Limits) -> Refusal | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return LINK
    if kind not in (0, stat.S_IFREG):
        return SPECIAL
    if info.flag_bits & 0x1:
        return ENCRYPTED
    if info.compress_type not in _READ:
        return Fault.DAMAGED, "is compressed in another way than by deflate"
    return refuse_size(info.file_size, limits)


class _Directory:
    """A file that bounds what `zipfile` reads while it opens: the whole directory, at once.

    It would make an object of every entry, a hundred million of them in a file of 5 GB.
    """

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self.is_open = False
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read on; raises BombError for a directory with too many entries."""
        if self.is_open:
            return self._file.read(size)
        most = _FREE_DIRECTORY_BYTES + _MEAN_ENTRY_BYTES * self._limits.members
        if size > most:
            raise BombError(f"its directory has {size:,} bytes, {most:,} may be")
        data = self._file.read(size)
        entries = _count_entries(data)
        if entries > self._limits.members:
            raise BombError(f"it has {entries:,} members, {self._limits.members:,} may be")
        return data


def _count_entries(directory: bytes) -> int:
    """Count the entries; raises BombError for one that is costly to read."""
    at, count = 0, 0
    while directory[at : at + len(_ENTRY)] == _ENTRY:
        count += 1
        sizes = [
            int.from_bytes(directory[at + offset : at + offset + 2], "little")
            for offset in _LENGTHS
        ]
        if sizes[1] > _MAX_EXTRA_BYTES:
            raise BombError(f"it has an entry with {sizes[1]:,} bytes of extra fields")
        at += _ENTRY_BYTES + sum(sizes)
    return count
