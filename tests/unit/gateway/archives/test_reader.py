"""What distinguishes refusals, and archives that would fill the memory of their reader.

`tests/unit/tools/batch/test_archives.py` reads all kinds of archives through the bulk commands.
"""

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile

import pytest

from gateway.archives.reader import read_members
from gateway.archives.types import Fault, ImageMember, Limits, Member, OtherMember, RefusedMember
from tests.support.fake_inference import photo

IMAGE = photo(seed=1)


def read(data: bytes, limits: Limits | None = None) -> list[Member]:
    return list(read_members(io.BytesIO(data), limits or Limits()))


def zipped(*members: tuple[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return target.getvalue()


def tarred(*members: tuple[str, bytes], mode: str = "w") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


@pytest.mark.parametrize("make", [zipped, tarred])
def test_each_refusal_has_its_fault(make):
    found = read(
        make(
            ("1.png", IMAGE),
            ("notes.txt", b"x"),
            ("../2.png", IMAGE),
            ("big.png", IMAGE + bytes(5000)),
            ("in.zip", b"x"),
        ),
        Limits(member_bytes=len(IMAGE)),
    )
    assert found[0] == ImageMember("1.png", IMAGE, found[0].weight)
    assert isinstance(found[1], OtherMember)
    assert [each.fault for each in found[2:] if isinstance(each, RefusedMember)] == [
        Fault.HOSTILE,
        Fault.TOO_LARGE,
        Fault.HOSTILE,
    ]
    assert [each.name for each in found] == ["1.png", "notes.txt", "../2.png", "big.png", "in.zip"]


@pytest.mark.parametrize("make", [zipped, lambda *members: tarred(*members, mode="w:gz")])
def test_a_cap_on_the_contents_is_no_accusation(make):
    data = make(*((f"{i}.png", IMAGE + bytes(30_000)) for i in range(9)))
    (*_, last) = read(data, Limits(most_bytes=100_000))
    assert last == RefusedMember(None, "it unpacks to more than 100,000 bytes", Fault.TOO_LARGE)
    (*_, last) = read(data, Limits(ratio=2, slack_bytes=10_000, most_bytes=10_000_000))
    assert (last.name, last.fault) == (None, Fault.HOSTILE)
    assert len(read(data, Limits(most_bytes=1_000_000))) == 9


def test_damage_is_told_from_harm():
    assert read(zipped(("1.png", IMAGE))[:-9])[-1].fault is Fault.DAMAGED
    assert read(b"\x1f\x8bxxxxxxxxxxxxxx")[-1].fault is Fault.DAMAGED
    assert read(b"")[-1].fault is Fault.DAMAGED
    data = bytearray(zipped(("1.png", IMAGE), ("2.png", IMAGE)))
    data[60] ^= 0xFF
    bad, good = read(bytes(data))
    assert (bad.name, bad.fault) == ("1.png", Fault.DAMAGED)
    assert isinstance(good, ImageMember)


def test_a_directory_of_many_entries_is_refused_before_it_is_kept():
    """An entry has 46 bytes, and a thousand in memory."""
    entries = 200_000
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[20] * 2, *[0] * 4, *[0] * 3, *[0] * 5, 0, 0)
    directory = entry * entries
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0)
    data = zipped(("1.png", b"x"))[:40] + directory + end
    tracemalloc.start()
    (refused,) = read(data, Limits(members=1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "its directory has" in refused.reason
    (refused,) = read(data, Limits(members=entries - 1))
    assert refused.reason == f"archive refused: it has {entries:,} members, 199,999 may be"
    assert peak < 5_000_000


def test_comments_do_not_make_a_directory_too_large_to_read():
    names = [(f"{i:0100}.png", IMAGE) for i in range(50)]
    assert len(read(zipped(*names), Limits(members=50))) == 50
    assert len(read(zipped(*names), Limits(members=49))) == 1


def sparse_tar(*, old: bool) -> bytes:
    """A file of holes whose map goes on for as long as the archive does."""
    if old:
        info = tarfile.TarInfo("holes.png")
        info.type = tarfile.GNUTYPE_SPARSE
        head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        # the map continues in the next block
        head[482] = 1
        more = bytearray(512)
        more[504] = 1
        checked(head)
        return bytes(head) + bytes(more) * 4000
    info = tarfile.TarInfo("holes.png")
    body = b"1000000000\n" + b"0\n" * 1_000_000
    info.size = len(body)
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x"}
    return info.tobuf(tarfile.PAX_FORMAT) + body


def checked(head: bytearray) -> None:
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)


@pytest.mark.parametrize("old", [True, False])
def test_the_map_of_a_sparse_file_is_not_read(old):
    data = gzip.compress(sparse_tar(old=old))
    tracemalloc.start()
    (refused,) = read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(refused, RefusedMember)
    assert "sparse" in refused.reason
    assert peak < 4_000_000


def test_an_entry_without_a_name_is_passed_over():
    data = zipped(("1.png", IMAGE), ("2.png", IMAGE))
    name = data.index(b"1.png", data.index(b"PK\x01\x02"))
    entry = bytearray(data)
    # its name becomes a part of its extra field
    entry[name - 46 + 28 : name - 46 + 32] = b"\0\0\5\0"
    entry[name : name + 5] = b"\xff\xff\1\0x"
    (found,) = read(bytes(entry))
    assert found == ImageMember("2.png", IMAGE, found.weight)
