"""Members of archives, and archives that are made to harm."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from gateway.archives.reader import is_archive, is_other_archive
from gateway.archives.types import DEFAULT_LIMITS, Limits
from tests.support.fake_inference import photo
from tools.batch.archives import read_archive
from tools.batch.types import Input, Photo, Refused, Skipped

IMAGE = photo(seed=1)
TIGHT = Limits(member_bytes=1 << 20, members=5, ratio=2, slack_bytes=1 << 16)


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    return path


def tarred(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for each in members:
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each)
                continue
            name, data = each
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(path: Path, limits: Limits = DEFAULT_LIMITS) -> list[Input]:
    return list(read_archive(path, path.name, limits))


def shown(found: list[Input]) -> list[tuple[str, str]]:
    return [
        (each.name, each.reason if isinstance(each, Refused) else type(each).__name__)
        for each in found
    ]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_members_come_in_their_order_with_their_bytes(tmp_path, kind):
    members = [("b/2.png", IMAGE), ("a/1.png", photo(seed=2)), ("notes.txt", b"hello")]
    path = tmp_path / f"photos.{kind}"
    if kind == "zip":
        zipped(path, *members)
    else:
        tarred(path, *members, mode="w:gz" if kind == "tar.gz" else "w")
    first, second, third = read(path)
    assert isinstance(first, Photo)
    assert (first.name, first.member) == (f"photos.{kind}/b/2.png", "b/2.png")
    assert (first.data, len(first.sha256)) == (IMAGE, 64)
    assert isinstance(second, Photo)
    assert second.data == photo(seed=2)
    assert third == Skipped(f"photos.{kind}/notes.txt", third.weight)
    assert is_archive(path.read_bytes()[:262])


def test_what_systems_leave_in_archives_is_skipped(tmp_path):
    path = zipped(tmp_path / "a.zip", ("__MACOSX/._1.jpg", b"\0\5\26\7"), (".x/1.png", IMAGE))
    assert [type(each) for each in read(path)] == [Skipped, Skipped]


@pytest.mark.parametrize(
    "name", ["../1.png", "a/../../1.png", "/1.png", "..\\1.png", "C:\\1.png", "a\\..\\..\\1.png"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_climb_out_are_refused(tmp_path, kind, name):
    path = tmp_path / f"a.{kind}"
    (zipped if kind == "zip" else tarred)(path, (name, IMAGE), ("good.png", IMAGE))
    bad, good = read(path)
    assert isinstance(bad, Refused)
    assert "leads out" in bad.reason
    assert isinstance(good, Photo)


def test_links_and_devices_of_a_tar_are_refused(tmp_path):
    path = tarred(
        tmp_path / "a.tar",
        special("soft.png", tarfile.SYMTYPE),
        special("hard.png", tarfile.LNKTYPE, "good.png"),
        special("pipe.png", tarfile.FIFOTYPE),
        special("device.png", tarfile.CHRTYPE),
        ("good.png", IMAGE),
    )
    assert shown(read(path)) == [
        ("a.tar/soft.png", "is a link"),
        ("a.tar/hard.png", "is a link"),
        ("a.tar/pipe.png", "is no regular file"),
        ("a.tar/device.png", "is no regular file"),
        ("a.tar/good.png", "Photo"),
    ]


def test_links_and_secrets_of_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("soft.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    path = zipped(tmp_path / "a.zip", (link, b"/etc/passwd"), ("locked.png", IMAGE))
    data = bytearray(path.read_bytes())
    # the flag of encryption, in the directory's second entry
    second = data.rindex(b"PK\x01\x02")
    data[second + 8] |= 1
    path.write_bytes(data)
    assert shown(read(path)) == [
        ("a.zip/soft.png", "is a link"),
        ("a.zip/locked.png", "is encrypted"),
    ]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_within_archives_are_refused(tmp_path, kind):
    inner = zipped(tmp_path / "inner.zip", ("1.png", IMAGE)).read_bytes()
    path = tmp_path / f"a.{kind}"
    (zipped if kind == "zip" else tarred)(path, ("inner.zip", inner), ("x.tar.gz", b"\x1f\x8b"))
    assert {reason for _, reason in shown(read(path))} == {"is an archive within an archive"}


def test_a_zip_bomb_ends_the_archive(tmp_path):
    bomb = IMAGE + bytes(1 << 19)
    path = zipped(tmp_path / "a.zip", ("good.png", IMAGE), ("bomb.png", bomb), ("no.png", IMAGE))
    good, refused = read(path, TIGHT)
    assert isinstance(good, Photo)
    assert isinstance(refused, Refused)
    assert (refused.name, "many times its size" in refused.reason) == ("a.zip", True)


def test_a_member_that_hides_its_size_is_cut(tmp_path):
    path = zipped(tmp_path / "a.zip", ("bomb.png", IMAGE + bytes(1 << 19)))
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.index(mark) + offset, 100)
    path.write_bytes(data)
    (found,) = read(path, TIGHT)
    assert isinstance(found, Refused)


@pytest.mark.parametrize("name", ["bomb.png", "bomb.bin"])
def test_a_gzip_bomb_ends_the_archive(tmp_path, name):
    path = tarred(tmp_path / "a.tgz", ("good.png", IMAGE), (name, bytes(1 << 19)), mode="w:gz")
    found = read(path, TIGHT)
    last = found[-1]
    assert isinstance(last, Refused)
    assert "many times its size" in last.reason
    assert isinstance(found[0], Photo) or len(found) == 1


def test_a_large_member_is_refused_by_its_header(tmp_path):
    limits = Limits(member_bytes=len(IMAGE))
    for path in (
        zipped(tmp_path / "a.zip", ("big.png", IMAGE + b"x"), ("good.png", IMAGE)),
        tarred(tmp_path / "a.tar", ("big.png", IMAGE + b"x"), ("good.png", IMAGE)),
    ):
        big, good = read(path, limits)
        assert isinstance(big, Refused)
        assert isinstance(good, Photo)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_too_many_members_end_the_archive(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    (zipped if kind == "zip" else tarred)(path, *((f"{i}.png", IMAGE) for i in range(6)))
    last = read(path, TIGHT)[-1]
    assert isinstance(last, Refused)
    assert "members" in last.reason


def test_a_header_of_megabytes_is_not_read(tmp_path):
    info = tarfile.TarInfo("x" * (2 << 20))
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info)
    (found,) = read(path)
    assert isinstance(found, Refused)
    assert "header of" in found.reason


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_a_cut_archive_is_reported(tmp_path, kind):
    members = [(f"{i}.png", photo(seed=i)) for i in range(3)]
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(path, *members)
    else:
        tarred(path, *members, mode="w:gz" if kind == "tar.gz" else "w")
    size = 700 if kind == "tar" else path.stat().st_size // 2
    path.write_bytes(path.read_bytes()[:size])
    last = read(path)[-1]
    assert isinstance(last, Refused)
    assert "damaged" in last.reason


def test_a_damaged_member_does_not_end_a_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.png", IMAGE)
        archive.writestr("good.png", IMAGE)
    data = bytearray(path.read_bytes())
    data[30 + len("bad.png") + 50] ^= 0xFF
    path.write_bytes(data)
    bad, good = read(path)
    assert isinstance(bad, Refused)
    assert "cannot be unpacked" in bad.reason
    assert isinstance(good, Photo)


def test_a_compressed_file_that_is_no_tar_is_reported(tmp_path):
    path = tmp_path / "notes.gz"
    path.write_bytes(gzip.compress(b"hello"))
    (found,) = read(path)
    assert isinstance(found, Refused)


def test_other_archives_are_recognised():
    assert is_other_archive(b"7z\xbc\xaf\x27\x1c\x00")
    assert not is_other_archive(IMAGE)
    assert not is_archive(IMAGE)
