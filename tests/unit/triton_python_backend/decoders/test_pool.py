import io
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.support import photos
from tests.support.crashing_decoder import INJECTED, crashing, hanging
from tests.support.serving import wait_until
from triton_python_backend import decoding
from triton_python_backend.decoders import pool as module
from triton_python_backend.decoders import worker
from triton_python_backend.decoders.pool import CRASHES, DecoderPool, DecodersAwayError
from triton_python_backend.formats.header import InvalidImageError
from triton_python_backend.formats.reader import read_header

PORTRAIT = photos.PORTRAIT.read_bytes()


class Decoders(DecoderPool):
    """A pool and what it logs."""

    def __init__(self):
        self.lines = []
        super().__init__(keep=2, log=self.lines.append)

    def __call__(self, data, *, reduction=None):
        return self.decode_with(read_header(data), data, reduction=reduction)

    @property
    def pids(self):
        return [each.pid for workers in self._idle.values() for each in workers]

    @property
    def forking(self):
        return self._nursery._process.pid


@contextmanager
def opened():
    pool = Decoders()
    try:
        yield pool
    finally:
        pids = pool.pids
        pool.close()
        assert wait_until(lambda: not any(map(psutil.pid_exists, pids)))


@pytest.fixture(scope="module")
def decoders():
    with opened() as pool:
        yield pool


@pytest.fixture
def frail(monkeypatch):
    """A pool of decoders that marked pictures crash."""
    monkeypatch.syspath_prepend(str(INJECTED))
    with opened() as pool:
        yield pool


def encoded(form, *, width=90, height=60, **options):
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 4 % 256, columns * 2 % 256, (rows + columns) % 256], 2)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, form, **options)
    return buffer.getvalue()


def sideways():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("JPEG", exif=exif)


@pytest.mark.parametrize(
    ("make", "reduction"),
    [
        (lambda: PORTRAIT, None),
        (sideways, None),
        (lambda: encoded("WEBP"), None),
        (lambda: encoded("BMP"), None),
        (lambda: encoded("JPEG", width=3000, height=2000), None),
        (lambda: encoded("JPEG"), 4),
        # more than is kept between images
        (lambda: encoded("PNG", width=3000, height=2400), None),
    ],
    ids=["portrait", "turned", "WebP", "BMP", "large JPEG", "reduced JPEG", "large PNG"],
)
def test_pictures_are_those_of_the_decoder(decoders, make, reduction):
    data = make()
    there = decoders(data, reduction=reduction)
    here = decoding.decode_with(read_header(data), data, reduction=reduction)
    assert np.array_equal(there.pixels, here.pixels)
    assert (there.width, there.height, there.reduction) == (
        here.width,
        here.height,
        here.reduction,
    )
    # they are the caller's own
    decoders(encoded("BMP"))
    assert np.array_equal(there.pixels, here.pixels)


def test_a_damaged_picture_costs_no_process(decoders):
    damaged = PORTRAIT[:4000] + bytes(2000) + PORTRAIT[6000:]
    decoders.start()
    before = decoders.pids
    with pytest.raises(InvalidImageError) as here:
        decoding.decode_with(read_header(damaged), damaged)
    with pytest.raises(InvalidImageError) as there:
        decoders(damaged)
    assert str(there.value) == str(here.value)
    assert decoders.pids == before
    assert decoders.lines == []


def test_too_many_pixels_reach_no_process(decoders, monkeypatch):
    monkeypatch.setenv(decoding.MAX_PIXELS_VARIABLE, "1000")
    with pytest.raises(InvalidImageError, match="512 x 512 pixels"):
        decoders(PORTRAIT)


def test_a_crash_costs_its_picture_only(frail):
    frail.start()
    (first,) = frail.pids
    with pytest.raises(InvalidImageError, match=CRASHES):
        frail(crashing(PORTRAIT))
    assert len(frail.lines) == 2
    assert all("over a PNG of" in line for line in frail.lines)
    assert frail(PORTRAIT).width == 512
    assert first not in frail.pids


def test_a_picture_that_crashed_is_refused_without_a_process(frail):
    for _ in range(3):
        with pytest.raises(InvalidImageError, match=CRASHES):
            frail(crashing(PORTRAIT))
    assert len(frail.lines) == 2
    # another picture of the same size is not
    assert frail(PORTRAIT + bytes(len(crashing(b"")))).width == 512
    with pytest.raises(InvalidImageError, match=CRASHES):
        frail(crashing(PORTRAIT, 1))
    assert len(frail.lines) == 4


def test_crashes_fail_no_other_picture(frail):
    pictures = [crashing(PORTRAIT, each) if each % 3 == 0 else PORTRAIT for each in range(24)]

    def decoded(data):
        try:
            return frail(data).width
        except InvalidImageError as error:
            return str(error)

    with ThreadPoolExecutor(4) as callers:
        found = list(callers.map(decoded, pictures))
    assert found == [CRASHES if each % 3 == 0 else 512 for each in range(24)]


def test_a_picture_that_hangs_is_refused(frail, monkeypatch):
    frail.start()
    monkeypatch.setattr(worker, "LONGEST_SECONDS", 0.2)
    # the one that is idle still has the usual time
    taken = frail._take()
    with pytest.raises(InvalidImageError, match=CRASHES):
        frail(hanging(PORTRAIT))
    frail._give_back(taken)
    assert len(frail.lines) == 1
    assert frail(PORTRAIT).width == 512


def test_a_process_that_ended_meanwhile_costs_nothing(decoders):
    decoders.start()
    ended = decoders.pids
    for pid in ended:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(psutil.pid_exists, ended)))
    assert decoders(PORTRAIT).width == 512
    assert decoders.lines == []


def test_a_picture_is_not_blamed_for_what_ended_its_process(frail, monkeypatch):
    frail.start()
    (pid,) = frail.pids
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as caller:
        picture = caller.submit(frail, PORTRAIT)
        assert wait_until(lambda: not frail.pids)
        os.kill(pid, signal.SIGKILL)
        assert picture.result().width == 512
    assert frail(PORTRAIT).width == 512
    assert len(frail.lines) <= 1


def test_the_process_that_forks_is_replaced(decoders):
    decoders(PORTRAIT)
    first = decoders.forking
    for pid in (first, *decoders.pids):
        os.kill(pid, signal.SIGKILL)
    assert decoders(PORTRAIT).width == 512
    assert decoders.forking != first


def test_a_machine_without_room_for_a_process_blames_no_picture(monkeypatch):
    def full(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(module.subprocess, "Popen", full)
    pool = Decoders()
    with pytest.raises(DecodersAwayError, match="temporarily unavailable"):
        pool(PORTRAIT)
    monkeypatch.undo()
    assert pool(PORTRAIT).width == 512
    pool.close()


def test_a_decoder_knows_no_secret_and_has_nothing_open(decoders, monkeypatch):
    monkeypatch.setenv("AURUM_API_KEY", "aur_secret")
    decoders.close()
    decoders.start()
    (pid,) = decoders.pids
    assert b"aur_secret" not in Path(f"/proc/{pid}/environ").read_bytes()
    opened_files = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
    kinds = {name.partition(":")[0] for name in opened_files}
    assert sum(name.startswith("socket:") for name in opened_files) == 1
    assert "/memfd" in kinds
    assert len(opened_files) <= 5


def test_slow_work_gets_a_process_of_its_priority(decoders):
    def nicely():
        os.setpriority(os.PRIO_PROCESS, 0, 10)
        decoders(PORTRAIT)

    with ThreadPoolExecutor(1) as slow:
        slow.submit(nicely).result()
    (pid,) = (each.pid for each in decoders._idle[10])
    assert psutil.Process(pid).nice() == 10


def test_decoders_end_with_their_owner():
    started = time.monotonic()
    pool = Decoders()
    pool.start()
    process = psutil.Process(pool.pids[0])
    # what remains of a killed owner is closed sockets
    pool.close()
    assert wait_until(lambda: not process.is_running())
    assert time.monotonic() - started < 60
