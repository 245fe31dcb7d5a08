"""Reads images out of zip and tar archives, member by member; nothing is written to the disk.

An archive comes from anywhere: links, paths that climb out, archives within archives and contents
that are far larger than the archive are refused.
"""

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from tools.batch.images import HEAD_BYTES, is_image
from tools.batch.types import Input, Photo, Refused, Skipped, text_of

_ZIPS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP: Final = b"\x1f\x8b"
_TAR: Final = slice(257, 262)
ARCHIVE_HEAD_BYTES: Final = 262
_OTHERS: Final = (b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a")
_NESTED: Final = frozenset(
    (
        *(".zip", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz"),
        *(".zst", ".lz4", ".7z", ".rar", ".jar", ".cbz", ".cbr"),
    )
)
_MAX_HEADER_BYTES: Final = 1 << 20
"""Largest name or extended header in a tar; tarfile reads each of them into memory."""
_LONG_HEADERS: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_BLOCK: Final = 1 << 18
_BROKEN: Final = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What the readers of archives raise for one that is damaged."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may cost.

    member_bytes: largest member. members: their number. ratio, slack_bytes: its contents have at
    most `ratio` times its bytes and `slack_bytes` more.
    """

    member_bytes: int = 256 << 20
    members: int = 1_000_000
    ratio: int = 200
    slack_bytes: int = 64 << 20

    def total_bytes(self, archive_bytes: int) -> int:
        """Most bytes that an archive may unpack to."""
        return self.ratio * archive_bytes + self.slack_bytes


DEFAULT_LIMITS: Final = Limits()


class _BombError(Exception):
    """The archive costs more than it may."""


def is_archive(head: bytes) -> bool:
    """Whether a file that begins so (`ARCHIVE_HEAD_BYTES` of it) is a zip, tar or gzip file."""
    return head.startswith((*_ZIPS, _GZIP)) or head[_TAR] == b"ustar"


def is_other_archive(head: bytes) -> bool:
    """Whether a file that begins so is an archive of a kind that is not read."""
    return head.startswith(_OTHERS)


def read_archive(path: Path, name: str, limits: Limits = DEFAULT_LIMITS) -> Iterator[Input]:
    """Yield the members of a zip, tar or tar.gz in their order, named `<name>/<member>`.

    A damaged or malicious archive ends with a `Refused` of its own; what comes before is read.
    """
    read = 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(0)
            members = _zip if head.startswith(_ZIPS) else _tar
            for each in members(file, name, limits, limits.total_bytes(size)):
                read += each.weight
                yield each
    except _BombError as error:
        yield Refused(name, f"archive refused: {error}", 0)
    except _BROKEN as error:
        reason = str(error) or type(error).__name__
        yield Refused(name, f"the archive is damaged: {reason}", 0)


def _zip(file: IO[bytes], name: str, limits: Limits, most: int) -> Iterator[Input]:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > limits.members:
            raise _BombError(f"it has {len(infos):,} members, {limits.members:,} may be")
        left = most
        for info in infos:
            if info.is_dir():
                continue
            weight, member = info.compress_size, text_of(info.filename)
            full = f"{name}/{member}"
            reason = _wrong_path(info.filename) or _wrong_zip(info, limits)
            if reason is not None:
                yield Refused(full, reason, weight)
                continue
            if _is_hidden(info.filename):
                yield Skipped(full, weight)
                continue
            try:
                with archive.open(info) as opened:
                    data = _read_image(opened, member, min(limits.member_bytes, left))
            except _BROKEN as error:
                yield Refused(full, f"cannot be unpacked: {error}", weight)
                continue
            if data is None:
                yield Skipped(full, weight)
                continue
            left -= len(data)
            yield Photo.of(full, data, weight=weight, member=member)


def _wrong_zip(info: zipfile.ZipInfo, limits: Limits) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG):
        return "is no regular file"
    if info.flag_bits & 0x1:
        return "is encrypted"
    return _too_large(info.file_size, limits)


def _tar(file: IO[bytes], name: str, limits: Limits, most: int) -> Iterator[Input]:
    zipped = file.read(2) == _GZIP
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
                raise _BombError(f"it has more than {limits.members:,} members")
            if info.isdir():
                continue
            weight, before = max(file.tell() - before, 0), file.tell()
            yield _tar_member(archive, info, name, limits, weight)


def _tar_member(
    archive: tarfile.TarFile, info: tarfile.TarInfo, name: str, limits: Limits, weight: int
) -> Input:
    member = text_of(info.name)
    full = f"{name}/{member}"
    reason = _wrong_path(info.name) or _wrong_tar(info, limits)
    if reason is not None:
        return Refused(full, reason, weight)
    opened = None if _is_hidden(info.name) else archive.extractfile(info)
    data = None if opened is None else _read_image(opened, member, limits.member_bytes)
    if data is None:
        return Skipped(full, weight)
    return Photo.of(full, data, weight=weight, member=member)


def _wrong_tar(info: tarfile.TarInfo, limits: Limits) -> str | None:
    if info.issym() or info.islnk():
        return "is a link"
    if not info.isreg() or info.issparse():
        return "is no regular file"
    return _too_large(info.size, limits)


def _too_large(size: int, limits: Limits) -> str | None:
    if size > limits.member_bytes:
        return f"has {size:,} bytes, {limits.member_bytes:,} may be"
    return None


def _wrong_path(member: str) -> str | None:
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (member[1:2] == ":" and member[0].isalpha()):
        return "has a path that leads out of the archive"
    if path.suffix.lower() in _NESTED:
        return "is an archive within an archive"
    return None


def _is_hidden(member: str) -> bool:
    """Whether it belongs to a system rather than to a person: `.git/…`, `__MACOSX/._a.jpg`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(member).parts)


def _read_image(opened: IO[bytes], member: str, most: int) -> bytes | None:
    """Read a member to its end if it is an image; the rest of anything else stays unread."""
    head = opened.read(HEAD_BYTES)
    if not is_image(member, head):
        return None
    data = head + opened.read(max(most - len(head), 0) + 1)
    if len(data) > most:
        raise _BombError("it unpacks to many times its size")
    return data


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
            raise _BombError("it unpacks to many times its size")
        return data


class _Info(tarfile.TarInfo):
    """A header whose long names and extensions have a bound."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _LONG_HEADERS and self.size > _MAX_HEADER_BYTES:
            raise _BombError(f"it has a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]
