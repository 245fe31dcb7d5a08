"""Exif blocks: the orientation is found or the block is ignored; never an exception."""

import struct

import pytest

from tests.support.image_files import exif, tiff
from triton_python_backend.formats.exif import first_orientation, read_orientation

NEGATIVE_RATIONAL = (0x9204, 10, struct.pack("<I", 38))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_each_orientation_in_both_byte_orders(order, value):
    assert read_orientation(exif(value, order=order)) == value
    assert read_orientation(tiff(value, order=order)) == value


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0" + exif(6),
        b"Exif\0\0" * 3 + tiff(6),
        tiff(6, NEGATIVE_RATIONAL),
        tiff(6, (0x010F, 2, b"\xff\xff\xff\xff")),
        tiff(6)[:-4],
        tiff(6) + b"\xff" * 100,
        # a LONG instead of a SHORT
        tiff(None, (0x0112, 4, struct.pack("<I", 6))),
        tiff(None, (0x0112, 1, b"\x06\0\0\0")),
    ],
    ids=["doubled", "tripled", "-1/0", "pointer out", "cut", "longer", "long", "byte"],
)
def test_other_contents_of_a_block_do_not_matter(block):
    assert read_orientation(block) == 6


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Exif\0\0",
        b"Exif",
        b"Exif\0\0" * 5000,
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II+\0" + tiff(6)[4:],
        b"XX" + tiff(6)[2:],
        tiff(None),
        tiff(0),
        tiff(9),
        tiff(6)[:20],
        tiff(None, (0x0112, 2, b"6\0\0\0")),
        b"MM\0*\0\0\0\x08\xff\xff",
    ],
)
def test_a_broken_block_is_ignored(block):
    assert read_orientation(block) is None


def test_a_broken_tag_does_not_hide_the_next_block():
    assert first_orientation([b"Exif\0\0garbage", tiff(77), tiff(6), tiff(3)]) == 6
    assert first_orientation([]) == 1


def test_only_a_few_headers_before_a_block_are_skipped():
    # skipping one copies the rest of the block
    assert read_orientation(b"Exif\0\0" * 4 + tiff(6)) == 6
    assert read_orientation(b"Exif\0\0" * 5 + tiff(6)) is None


def test_the_number_of_read_blocks_is_bounded():
    blocks = iter([b"silent"] * 1000)
    assert first_orientation(blocks) == 1
    assert len(list(blocks)) > 900
