"""Archives that climb out, unpack to gigabytes, lie about their members, or are none."""

import bz2
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from tests.e2e.hostile.case import (
    ACCEPTED,
    BAD_IMAGE,
    INVALID,
    TOO_LARGE,
    UNKNOWN_TYPE,
    Case,
    Expected,
)
from tests.e2e.hostile.wire import BATCH, GOOD, form, head, part, post

_ZIP, _TAR, _GZIP = (f"Content-Type: application/{kind}" for kind in ("zip", "x-tar", "gzip"))
Members = dict[str, bytes]


def cases() -> Iterator[Case]:
    """Yield all archives, as the body and as a file of a form."""
    for name, (kind, data, expected) in _all().items():
        sent = {
            "batch": post(BATCH, data, kind),
            "batch, in a form": form(BATCH, part('name="images"; filename="a"', data)),
        }
        # in a form, a file that is no archive is an image that is refused later
        others = {"batch, in a form": ACCEPTED} if expected == UNKNOWN_TYPE else {}
        yield Case("archives", name, sent, expected, others)
    huge = head("POST", BATCH, _ZIP, "Content-Length: 99999999999999")
    yield Case("archives", "archive that announces 100 TB", {"batch": huge}, TOO_LARGE)
    for name, data in _none().items():
        yield Case("archives", name, {"batch": post(BATCH, data, _ZIP)}, UNKNOWN_TYPE)
    yield Case("archives", "archive of no bytes", {"batch": post(BATCH, b"", _ZIP)}, INVALID)


def zipped(members: Members, packing: int = zipfile.ZIP_DEFLATED) -> bytearray:
    """Write a ZIP."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, packing)
    return bytearray(target.getvalue())


def _changed(data: bytearray, at: int, layout: str, value: int, *, both: bool = True) -> bytes:
    """Change a field of the first entry; `at` counts in the directory's, the local one follows."""
    struct.pack_into(layout, data, data.index(b"PK\1\2") + at, value)
    if both:
        struct.pack_into(layout, data, at - 2, value)
    return bytes(data)


def tarred(*infos: tarfile.TarInfo, body: bytes = b"", packed: bool = False) -> bytes:
    """Write a tar of headers, each with as much of the body as it says."""
    target = io.BytesIO()
    for info in infos:
        target.write(info.tobuf(tarfile.GNU_FORMAT))
        data = body[: info.size]
        target.write(data + bytes(-len(data) % 512))
    target.write(bytes(1024))
    return gzip.compress(target.getvalue()) if packed else target.getvalue()


def _info(
    name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def _extended(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return tarred(_info("x", kind, len(records)), _info("a.jpg"), body=records)


def _all() -> dict[str, tuple[str, bytes, Expected]]:
    return _zips() | _tars()


def _zips() -> dict[str, tuple[str, bytes, Expected]]:
    bomb = zipped({"bomb.jpg": bytes(80 << 20)})
    good = {"a.jpg": GOOD}
    linked = zipped({"a.jpg": b"/etc/passwd"}, zipfile.ZIP_STORED)
    return {
        f"ZIP {name}": (_ZIP, bytes(data), expected)
        for name, (data, expected) in {
            "that climbs out": (zipped({"../../etc/cron.d/a.jpg": GOOD}), INVALID),
            "that climbs out on Windows": (zipped({"..\\..\\a.jpg": GOOD}), INVALID),
            "with an absolute path": (zipped({"/etc/a.jpg": GOOD}), INVALID),
            "with a drive": (zipped({"C:a.jpg": GOOD}), INVALID),
            "within a ZIP": (zipped({"b.zip": bytes(zipped(good))}), INVALID),
            "with a tar in it": (zipped({"b.tar.gz": b"\x1f\x8b"}), INVALID),
            "with a link": (_changed(linked, 38, "<I", 0o120777 << 16, both=False), INVALID),
            "with a device": (
                _changed(zipped(good), 38, "<I", 0o060666 << 16, both=False),
                INVALID,
            ),
            "that is encrypted": (_changed(zipped(good), 8, "<H", 1), INVALID),
            "of 80 MB in 80 KB": (bomb, ACCEPTED),
            "of bzip2 that unpacks to 24 MB": (_bzip2(), BAD_IMAGE),
            "with a wrong CRC": (_changed(zipped(good), 16, "<I", 1), BAD_IMAGE),
            "whose member says 4 GB": (_changed(zipped(good), 24, "<I", 0xFFFFFFF0), ACCEPTED),
            "whose member says one byte": (_changed(zipped(good), 24, "<I", 1), BAD_IMAGE),
            "with an unknown compression": (_changed(zipped(good), 10, "<H", 98), BAD_IMAGE),
            "whose member lies beyond its end": (
                _changed(zipped(good), 42, "<I", 0x7FFFFFFF, both=False),
                BAD_IMAGE,
            ),
            "whose directory lies beyond its end": (_end(zipped(good), 16, 0x7FFFFFFF), BAD_IMAGE),
            "with 65,535 entries announced": (_end(zipped(good), 8, 0xFFFF, "<H"), ACCEPTED),
            "whose entries overlap": (_overlapping(), INVALID),
            "without a directory": (bytes(zipped(good))[:200], BAD_IMAGE),
            "with extra fields of 64 KB": (_extra(), INVALID),
            "of 41,000 members": (_many(41_000), INVALID),
            "with a name of NUL": (zipped({"a": b"x"}).replace(b"a", b"\0"), INVALID),
            "with names that are no text": (
                _changed(zipped({"\xff.jpg": GOOD}), 8, "<H", 0x800),
                ACCEPTED,
            ),
        }.items()
    }


def _end(data: bytearray, at: int, value: int, layout: str = "<I") -> bytes:
    struct.pack_into(layout, data, data.rindex(b"PK\5\6") + at, value)
    return bytes(data)


def _bzip2() -> bytes:
    data = zipped({"a.jpg": bz2.compress(bytes(24 << 20))}, zipfile.ZIP_STORED)
    return _changed(data, 10, "<H", zipfile.ZIP_BZIP2)


def _overlapping() -> bytes:
    """A hundred entries of the directory that share one member of 2 MB in 2 KB."""
    data = bytes(zipped({"a.jpg": bytes(2 << 20)}))
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entries = data[start:end] * 100
    return (
        data[:start]
        + entries
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 100, 100, len(entries), start, 0)
    )


def _extra() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        info = zipfile.ZipInfo("a.jpg")
        info.extra = struct.pack("<HH", 9, 0) * 16_000
        archive.writestr(info, GOOD)
    return target.getvalue()


def _many(count: int) -> bytes:
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entry = (
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
        + b"a"
    )
    directory = entry * count
    return (
        local
        + directory
        + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(local), 0)
    )


def _tars() -> dict[str, tuple[str, bytes, Expected]]:
    regular = _info("a.jpg", size=len(GOOD))
    zeros = bytes(80 << 20)
    return {
        f"tar {name}": (_TAR if data[:2] != b"\x1f\x8b" else _GZIP, data, expected)
        for name, (data, expected) in {
            "that climbs out": (tarred(_info("../../a.jpg")), INVALID),
            "with an absolute path": (tarred(_info("/etc/a.jpg")), INVALID),
            "with a symbolic link": (
                tarred(_info("a.jpg", tarfile.SYMTYPE, link="/etc/passwd")),
                INVALID,
            ),
            "with a hard link": (
                tarred(_info("a.jpg", tarfile.LNKTYPE, link="/etc/passwd")),
                INVALID,
            ),
            "with a device": (tarred(_info("a.jpg", tarfile.BLKTYPE)), INVALID),
            "with a character device": (tarred(_info("a.jpg", tarfile.CHRTYPE)), INVALID),
            "with a pipe": (tarred(_info("a.jpg", tarfile.FIFOTYPE)), INVALID),
            "of a sparse file": (
                tarred(_info("a.jpg", tarfile.GNUTYPE_SPARSE, 512), body=GOOD),
                INVALID,
            ),
            "within a tar": (tarred(_info("b.tar", size=512), body=bytes(512)), INVALID),
            "in gzip of 80 MB of zeros": (gzip.compress(zeros), INVALID),
            "in gzip with a member of 80 MB": (
                tarred(_info("a.jpg", size=len(zeros)), body=zeros, packed=True),
                INVALID,
            ),
            "whose member says 8 GB": (tarred(_info("a.jpg", size=8 << 30), body=b"x"), BAD_IMAGE),
            "that is cut off": (tarred(regular, body=GOOD)[:700], BAD_IMAGE),
            "in gzip that is cut off": (tarred(regular, body=GOOD, packed=True)[:-200], BAD_IMAGE),
            "in gzip with a wrong CRC": (
                tarred(regular, body=GOOD, packed=True)[:-8] + bytes(8),
                BAD_IMAGE,
            ),
            "with a wrong checksum": (
                tarred(regular, body=GOOD).replace(b"ustar", b"ustbr"),
                UNKNOWN_TYPE,
            ),
            "with a name of a megabyte": (
                tarred(_info("x", tarfile.GNUTYPE_LONGNAME, 1 << 20), body=b"n" * (1 << 20)),
                INVALID,
            ),
            "with a header of digits": (_extended(b"1" * 200_000), INVALID),
            "with a header for all of digits": (
                _extended(b"1" * 200_000, tarfile.XGLTYPE),
                INVALID,
            ),
            "with a header whose keys overlap": (_extended(b"2 " * 50_000 + b"=\n"), BAD_IMAGE),
            "with a header of 40,000 records": (_extended(b"6 a=b\n" * 40_000), INVALID),
            "with 2,000 headers in a row": (
                tarred(*[_info("x", tarfile.XHDTYPE)] * 2000, regular, body=GOOD),
                BAD_IMAGE,
            ),
            "with a size below zero": (_negative(regular), ACCEPTED),
        }.items()
    }


def _negative(info: tarfile.TarInfo) -> bytes:
    """A header whose size is -512, in base 256."""
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 10 + b"\xfe\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def _none() -> dict[str, bytes]:
    return {
        "7z as an archive": b"7z\xbc\xaf\x27\x1c" + bytes(90),
        "RAR as an archive": b"Rar!\x1a\7\0" + bytes(90),
        "xz as an archive": b"\xfd7zXZ\0" + bytes(90),
        "Zstandard as an archive": b"\x28\xb5\x2f\xfd" + bytes(90),
        "bzip2 as an archive": bz2.compress(b"x" * 90),
        "zlib as an archive": zlib.compress(b"x" * 90),
        "a picture as an archive": GOOD,
        "noise as an archive": b"\x80" * 600,
    }
