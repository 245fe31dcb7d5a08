"""Archives of uploads: off the event loop, interruptible, refused as a whole."""

import asyncio
import io
import threading
import time
import zipfile

import pytest

from gateway.archives.types import ImageMember, Limits, OtherMember
from gateway.errors import ImageTooLargeError, InvalidImageError, InvalidRequestError
from gateway.jobs.unpacking import TooLargeMember, limits_of, unpack
from tests.support.fake_inference import photo

IMAGE = photo(seed=1)


def zipped(*members: tuple[str, bytes]) -> io.BytesIO:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return target


async def read(file, limits=None, name=None):
    return [each async for each in unpack(file, name, limits or Limits())]


async def test_what_is_too_large_is_an_image_by_its_name():
    limits = limits_of(image_bytes=len(IMAGE), images=9, total_bytes=1 << 20)
    big = IMAGE + b"x"
    found = await read(
        zipped(("1.png", IMAGE), ("2.PNG", big), ("3.mov", big), ("__MACOSX/4.png", big)), limits
    )
    assert [type(each) for each in found] == [
        ImageMember,
        TooLargeMember,
        OtherMember,
        OtherMember,
    ]


@pytest.mark.parametrize(
    ("file", "limits", "error", "expected"),
    [
        (zipped(("/1.png", IMAGE)), Limits(), InvalidRequestError, "member '/1.png' has a path"),
        (io.BytesIO(b"PK\x03\x04"), Limits(), InvalidImageError, "the archive is damaged"),
        (zipped(("1.png", IMAGE)), Limits(most_bytes=9), ImageTooLargeError, "more than 9 bytes"),
        (zipped(("1.png", IMAGE)), Limits(members=0), InvalidRequestError, "has 1 members"),
    ],
)
async def test_refusals_name_archive_and_member(file, limits, error, expected):
    with pytest.raises(error, match=expected) as refused:
        await read(file, limits, "album.zip")
    assert "the archive 'album.zip'" in str(refused.value)
    with pytest.raises(error) as refused:
        await read(file, limits)
    assert "album" not in str(refused.value)


EMPTY = bytes.fromhex("1f8b080000000000000303000000000000000000")
"""A member of gzip that unpacks to nothing."""


class Endless(io.RawIOBase):
    """Empty members of gzip for ever, which keep their reader busy within one read."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()
        self.reads = 0
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        self.threads.add(threading.get_ident())
        self.reads += 1
        time.sleep(0.001)
        start = self._at % len(EMPTY)
        self._at += size
        return (EMPTY * (size // len(EMPTY) + 2))[start : start + size]

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at


async def test_nobody_reads_on_for_a_client_that_is_gone():
    file = Endless()
    reading = asyncio.create_task(read(file))
    while file.reads < 20:
        await asyncio.sleep(0.005)
    assert threading.get_ident() not in file.threads
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    for _ in range(200):
        seen = file.reads
        await asyncio.sleep(0.05)
        if file.reads == seen:
            return
    raise AssertionError("it reads on")
