"""Headers that were made to cost: they are refused, or read as far as a photo's reach."""

import struct
import tracemalloc

import cv2
import numpy as np
import pytest

from tests.support.image_files import chunk, exif, segment, tiff, with_chunks, with_segments
from triton_python_backend.formats import reader
from triton_python_backend.formats.exif import read_orientation
from triton_python_backend.formats.header import InvalidImageError
from triton_python_backend.formats.reader import read_header

NOISE = np.random.default_rng(3).integers(0, 255, (16, 24, 3), dtype=np.uint8)


def encoded(suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, NOISE)[1])


def frame(components: int, marker: int = 0xC2) -> bytes:
    rows = b"".join(bytes([each, 0x11, 0]) for each in range(components))
    return segment(marker, struct.pack(">BHHB", 8, 8, 8, components) + rows)


def scan(components: int) -> bytes:
    rows = b"".join(bytes([each, 0]) for each in range(components))
    return segment(0xDA, bytes([components]) + rows + bytes([0, 63, 0]))


def test_a_jpeg_has_four_components_at_most():
    assert read_header(b"\xff\xd8" + frame(4) + scan(4) + b"\xff\xd9").width == 8
    with pytest.raises(InvalidImageError, match="components than are decoded"):
        read_header(b"\xff\xd8" + frame(255) + scan(4) + b"\xff\xd9")
    repeated = segment(0xDA, bytes([255]) + bytes(510) + bytes([0, 63, 0]))
    with pytest.raises(InvalidImageError, match="components than there may be"):
        read_header(b"\xff\xd8" + frame(3) + repeated + b"\xff\xd9")


def test_the_end_of_a_cut_jpeg_lies_behind_the_head_of_its_scan():
    """Bytes of the head that look like the rest of a broken copy stay with it."""
    head = b"\xff\xd8" + frame(1, 0xC0)
    last = segment(0xDA, bytes([1, 0, 0, 0, 0xFF, 0xFF])) + b"\xff\xff\xff"
    header = read_header(head + last)
    assert header.is_cut
    again = read_header(header.stream.of(head + last))
    assert (again.width, again.height, again.is_cut) == (8, 8, False)


def test_text_of_megabytes_is_not_split_for_an_orientation():
    profile = b"Raw profile type exif\0\nexif\n 9\n" + exif(6).hex().encode()
    short = with_chunks(encoded(".png"), chunk(b"tEXt", profile))
    assert read_header(short).orientation == 6
    long = with_chunks(encoded(".png"), chunk(b"tEXt", profile[:22] + b"a " * 2_000_000))
    tracemalloc.start()
    assert read_header(long).orientation == 1
    assert tracemalloc.get_traced_memory()[1] < 24_000_000
    tracemalloc.stop()


def test_chunks_within_the_frames_of_a_webp_are_counted_together():
    inner = b"ABCD\0\0\0\0" * 9000
    empty = b"ANMF" + struct.pack("<I", 16 + len(inner)) + bytes(16) + inner
    picture = encoded(".webp")[12:]
    start = b"RIFF\0\0\0\0WEBP"
    assert read_header(start + empty + picture).width == 24
    with pytest.raises(InvalidImageError, match="more than 16384 chunks"):
        read_header(start + empty * 2 + picture)


def test_the_size_of_a_webp_is_read_within_its_chunk():
    picture = encoded(".webp")[12:]
    short = picture[:4] + struct.pack("<I", 4) + picture[8:]
    with pytest.raises(InvalidImageError, match="header of the WEBP"):
        read_header(b"RIFF\0\0\0\0WEBP" + short)


def test_an_exif_block_is_read_as_far_as_cameras_write():
    def behind(entries: int) -> int | None:
        return read_orientation(tiff(6, *[(1, 1, bytes(4))] * entries))

    assert behind(4095) == 6
    assert behind(4096) is None


def test_what_the_decoder_gets_reads_like_the_file():
    files = [
        encoded(".jpg"),
        with_segments(encoded(".jpg"), segment(0xE1, exif(5)), segment(0xFE, b"x" * 99)),
        encoded(".jpg")[:-2],
        with_chunks(encoded(".png"), chunk(b"eXIf", tiff(8)), chunk(b"tIME", bytes(7))),
        encoded(".webp"),
        encoded(".bmp"),
    ]
    for data in files:
        header = reader.read_header(data)
        again = reader.read_header(header.stream.of(data))
        assert (again.stored_width, again.stored_height) == (24, 16)
        assert again.orientation == 1
