"""Archives of a few kilobytes that would take a reader hours or gigabytes."""

import bz2
import io
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from gateway.archives.reader import read_members
from gateway.archives.types import Fault, ImageMember, Limits, Member, RefusedMember
from tests.support.fake_inference import photo

IMAGE = photo(seed=1)


def read(data: bytes) -> list[Member]:
    return list(read_members(io.BytesIO(data), Limits(member_bytes=1 << 20)))


def extended(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header, and an image behind it."""
    head, member = tarfile.TarInfo("extended"), tarfile.TarInfo("1.png")
    head.type, head.size, member.size = kind, len(records), len(IMAGE)
    blocks = [head.tobuf(tarfile.USTAR_FORMAT), records, bytes(-len(records) % 512)]
    blocks += [member.tobuf(tarfile.USTAR_FORMAT), IMAGE, bytes(-len(IMAGE) % 512), bytes(1024)]
    return b"".join(blocks)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    size = len(body) + 1
    while len(str(size)) + len(body) != size:
        size += 1
    return str(size).encode() + body


def test_bzip2_and_lzma_in_a_zip_are_not_unpacked():
    """`zipfile` unpacks all that 4 KB of them hold, whatever the header says and is asked for."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("bomb.png", bz2.compress(bytes(64 << 20)))
    data = bytearray(target.getvalue())
    for mark, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        struct.pack_into("<H", data, data.index(mark) + at, zipfile.ZIP_BZIP2)
    tracemalloc.start()
    (found,) = read(bytes(data))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert isinstance(found, RefusedMember)
    assert "another way" in found.reason


def test_extra_fields_of_a_zip_have_a_bound():
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        info = zipfile.ZipInfo("1.png")
        info.extra = struct.pack("<HH", 9, 0) * 16_000
        archive.writestr(info, IMAGE)
    (found,) = read(target.getvalue())
    assert isinstance(found, RefusedMember)
    assert (found.name, found.fault) == (None, Fault.HOSTILE)
    assert "extra fields" in found.reason


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_ordinary_extended_headers_are_read(kind):
    records = record("mtime", "1700000000.123456789") + record("comment", "a" * 5000)
    records += record("LIBARCHIVE.xattr.x", "\x01=\n9")
    (found,) = read(extended(records + bytes(9), kind))
    assert isinstance(found, ImageMember)


def test_an_extended_name_is_used():
    (found,) = read(extended(record("path", "é/2.png")))
    assert (found.name, type(found)) == ("é/2.png", ImageMember)


HOSTILE_RECORDS = {
    # the search for a number takes quadratic time
    "digits": (b"1" * 60_000, "hundred digits"),
    "digits in a record": (record("comment", "1" * 60_000), "hundred digits"),
    # every record's key is all that follows, up to the one `=`
    "keys that overlap": (b"2 " * 9000 + b"=\n", "cannot be read"),
    "no end": (b"99999 path=x\n", "cannot be read"),
    "no number": (b"x path=y\n", "cannot be read"),
    "no length": (b"0 path=y\n", "cannot be read"),
    "many records": (b"6 a=b\n" * 300, "more than 256 records"),
    "size": (b"6 a=b\n" * 50_000, "a header of"),
}


@pytest.mark.parametrize("name", HOSTILE_RECORDS)
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_extended_headers_that_cost_are_refused(name, kind):
    records, reason = HOSTILE_RECORDS[name]
    (found,) = read(extended(records, kind))
    assert isinstance(found, RefusedMember)
    assert found.name is None
    assert reason in found.reason


def test_what_is_said_for_all_members_is_not_collected():
    """Python keeps every record of every global header."""
    peaks = []
    for count in (4, 40):
        data = b"".join(
            extended(
                b"".join(record(f"{each}.{key}", "v" * 900) for key in range(250)), tarfile.XGLTYPE
            )[:-1024]
            for each in range(count)
        )
        data += bytes(1024)
        tracemalloc.start()
        assert len(read(data)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 20)
