"""Reads tar and tar.gz files member by member."""

import gzip
import re
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Final

from gateway.archives.checks import (
    LINK,
    SPECIAL,
    Refusal,
    read_image,
    refuse_path,
    refuse_size,
)
from gateway.archives.image_names import is_hidden
from gateway.archives.types import (
    BombError,
    ImageMember,
    Limits,
    Member,
    OtherMember,
    RefusedMember,
    UnpacksTooFarError,
    text_of,
)

GZIP_MARK: Final = b"\x1f\x8b"
TAR_MARK: Final = b"ustar"
TAR_MARK_AT: Final = 257
_MAX_HEADER_BYTES: Final = 256 << 10
"""Largest name or extended header; tarfile reads each of them into memory, and as many as follow
each other at once."""
_MAX_RECORDS: Final = 256
"""Most records of an extended header; tarfile makes texts of each."""
_LONG_NUMBER: Final = re.compile(rb"\d{100}")
"""What no time, size or name needs; tarfile searches such headers in quadratic time."""
_LONG_HEADERS: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_BLOCK: Final = 1 << 18


def read_tar(file: IO[bytes], limits: Limits, most: int) -> Iterator[Member]:
    """Yield the members, `most` bytes of tar at most; raises as `tarfile` does, and BombError."""
    zipped = file.read(2) == GZIP_MARK
    file.seek(0)
    stream: Any = _Counted(gzip.GzipFile(fileobj=file) if zipped else file, most)
    before = 0
    # `r|` never seeks: a member is read once, in its turn
    # its `members` have no type
    archive: Any
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK, tarinfo=_Info) as archive:
        count = 0
        while (info := archive.next()) is not None:
            # tarfile keeps all headers otherwise, also those meant for all members
            archive.members = []
            archive.pax_headers.clear()
            count += 1
            if count > limits.members:
                raise BombError(f"it has more than {limits.members:,} members")
            if info.isdir():
                continue
            weight, before = max(file.tell() - before, 0), file.tell()
            yield _read(archive, info, limits, weight)


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo, limits: Limits, weight: int) -> Member:
    name = text_of(info.name)
    refusal = refuse_path(info.name) or _refuse(info, limits)
    if refusal is not None:
        fault, reason = refusal
        return RefusedMember(name, reason, fault, weight)
    opened = None if is_hidden(info.name) else archive.extractfile(info)
    data = None if opened is None else read_image(opened, name, limits.member_bytes)
    return OtherMember(name, weight) if data is None else ImageMember(name, data, weight)


def _refuse(info: tarfile.TarInfo, limits: Limits) -> Refusal | None:
    if info.issym() or info.islnk():
        return LINK
    if not info.isreg() or info.issparse():
        return SPECIAL
    return refuse_size(info.size, limits)


class _Counted:
    """A stream that ends with an error beyond a number of bytes."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream = stream
        self._left = most

    def read(self, size: int) -> bytes:
        """Read on."""
        data: bytes = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise UnpacksTooFarError
        return data


class _Info(tarfile.TarInfo):
    """A header whose long names, extensions and maps of sparse files have a bound."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _LONG_HEADERS and self.size > _MAX_HEADER_BYTES:
            raise BombError(f"it has a header of {self.size:,} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE and self._sparse_structs[1]:  # type: ignore[attr-defined]
            _refuse_map()
        return super()._proc_member(archive)  # type: ignore[misc]

    def _proc_pax(self, archive: Any) -> Any:
        stream = archive.fileobj
        data = stream.read(self._block(self.size))  # type: ignore[attr-defined]
        _check_records(data[: self.size])
        archive.fileobj = _Again(data, archive, stream)
        return super()._proc_pax(archive)  # type: ignore[misc]

    def _proc_gnusparse_10(self, *_: Any) -> None:
        _refuse_map()


class _Again:
    """Gives bytes that were read already once more, then puts the stream back in its place."""

    def __init__(self, data: bytes, archive: Any, stream: Any) -> None:
        self._data = data
        self._archive = archive
        self._stream = stream

    def read(self, _: int) -> bytes:
        """Return the bytes."""
        self._archive.fileobj = self._stream
        return self._data


def _check_records(header: bytes) -> None:
    r"""Check the records of an extended header, each `<bytes of all of it> <key>=<value>\n`.

    tarfile looks for numbers and keys beyond the end of a record: in a header that was made for it
    for hours, or with gigabytes of memory. Raises BombError, and ReadError for a damaged header.
    """
    if _LONG_NUMBER.search(header):
        raise BombError("it has an extended header with a number of a hundred digits")
    # some writers end a header with zeros
    header, at = header.rstrip(b"\0"), 0
    for _ in range(_MAX_RECORDS):
        if at == len(header):
            return
        size = header[at : at + 8].partition(b" ")[0]
        end = at + int(size) if size.isdigit() else at
        if end > len(header) or not header.endswith(b"\n", at, end) or b"=" not in header[at:end]:
            raise tarfile.ReadError("an extended header cannot be read")
        at = end
    raise BombError(f"it has an extended header of more than {_MAX_RECORDS} records")


def _refuse_map() -> None:
    # tarfile would read the map of holes into memory, however long it is
    raise BombError("it has a sparse file with a map of its own")
