"""Reads tar and tar.gz files member by member."""

import gzip
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
_MAX_HEADER_BYTES: Final = 1 << 20
"""Largest name or extended header; tarfile reads each of them into memory."""
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
            # tarfile keeps all headers otherwise
            archive.members = []
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

    def _proc_gnusparse_10(self, *_: Any) -> None:
        _refuse_map()


def _refuse_map() -> None:
    # tarfile would read the map of holes into memory, however long it is
    raise BombError("it has a sparse file with a map of its own")
