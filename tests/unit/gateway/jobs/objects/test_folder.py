"""Files of uploaded images: modes, whole or not at all, a disk that is full or broken."""

import asyncio
import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from gateway.errors import InsufficientStorageError, JobsUnavailableError
from gateway.jobs.objects import folder as module
from gateway.jobs.objects.base import ObjectMissingError, object_key
from gateway.jobs.objects.folder import FolderObjects

JOB = "00000000-0000-0000-0000-0000000000a1"
KEY = object_key(JOB, 1)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path / "home" / "jobs", min_free_bytes=1000)


async def test_only_the_owner_reads_them(objects: FolderObjects, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await objects.put(KEY, b"x")
    finally:
        os.umask(before)
    file = tmp_path / "home" / "jobs" / KEY
    assert file.stat().st_mode & 0o777 == 0o600
    for folder in (file.parent, file.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


async def test_a_file_appears_whole_or_not_at_all(
    objects: FolderObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await objects.put(KEY, b"before")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(JobsUnavailableError) as failed:
        await objects.put(KEY, b"after")
    assert failed.value.retry_after_seconds
    with pytest.raises(JobsUnavailableError):
        await objects.put(object_key(JOB, 2), b"new")
    assert await objects.get(KEY) == b"before"
    with pytest.raises(ObjectMissingError):
        await objects.get(object_key(JOB, 2))
    assert [each.name for each in (tmp_path / "home/jobs" / JOB).iterdir()] == ["000001"]


async def test_writers_of_one_key_do_not_disturb_each_other(objects: FolderObjects) -> None:
    bodies = [bytes([i]) * 200_000 for i in range(8)]
    await asyncio.gather(*(objects.put(KEY, body) for body in bodies))
    assert await objects.get(KEY) in bodies


@pytest.mark.parametrize(("free", "size", "fits"), [(1100, 100, True), (1100, 101, False)])
async def test_a_nearly_full_disk_takes_nothing(
    objects: FolderObjects, monkeypatch: pytest.MonkeyPatch, free: int, size: int, fits: bool
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(9999, 0, free))
    if fits:
        await objects.put(KEY, bytes(size))
        return
    with pytest.raises(InsufficientStorageError, match="nearly full"):
        await objects.put(KEY, bytes(size))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_that_fills_up_meanwhile(
    objects: FolderObjects, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InsufficientStorageError, match="the disk is full"):
        await objects.put(KEY, b"x")


async def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(b"a file")
    objects = FolderObjects(tmp_path / "jobs", min_free_bytes=0)
    for call in (objects.put(KEY, b"x"), objects.health(), objects.get(KEY)):
        with pytest.raises(JobsUnavailableError):
            await call


async def test_flush_reaches_the_folders(
    objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    await objects.put(KEY, b"x")
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    await objects.flush(JOB)
    assert [Path(each).name for each in synced] == [JOB, "jobs"]
