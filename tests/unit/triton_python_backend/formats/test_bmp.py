"""BMP: every kind is decoded correctly or refused; the expected pixels are the packed ones."""

import random
import struct

import numpy as np
import pytest
from PIL import Image

from tests.support import photos
from triton_python_backend.decoding import decode
from triton_python_backend.formats.bmp import read_bmp
from triton_python_backend.formats.header import InvalidImageError

PIXELS = np.asarray(photos.portrait().resize((61, 40)))
MASKS = {
    "5-6-5": (16, 0xF800, 0x07E0, 0x001F),
    "5-5-5": (16, 0x7C00, 0x03E0, 0x001F),
    "5-6-5 blue first": (16, 0x001F, 0x07E0, 0xF800),
    "4-4-4": (16, 0x0F00, 0x00F0, 0x000F),
    "3-3-2": (16, 0xE0, 0x1C, 0x03),
    "BGRX": (32, 0xFF0000, 0xFF00, 0xFF),
    "RGBX": (32, 0xFF, 0xFF00, 0xFF0000),
    "XRGB": (32, 0xFF00, 0xFF0000, 0xFF000000),
    "green first": (32, 0xFF00, 0xFF, 0xFF0000),
    "10-10-10": (32, 0x3FF00000, 0x000FFC00, 0x000003FF),
}


def bits(mask: int) -> int:
    return (mask // (mask & -mask)).bit_length()


def packed(depth: int, *masks: int, flat: bool = False) -> tuple[bytes, np.ndarray]:
    """Return rows as stored in a file, last row first unless `flat`, and their pixels."""
    values, kept = np.zeros(PIXELS.shape[:2], np.uint64), []
    for channel, mask in enumerate(masks):
        most = (1 << bits(mask)) - 1
        level = (PIXELS[..., channel].astype(np.uint64) * most + 127) // 255
        values += level * (mask & -mask)
        kept.append((level * 255 + most // 2) // most)
    rows = values.astype(f"<u{depth // 8}")
    padding = b"\0" * (-rows.shape[1] * depth // 8 % 4)
    ordered = rows if flat else rows[::-1]
    return b"".join(row.tobytes() + padding for row in ordered), np.stack(kept, 2).astype(np.uint8)


def bitmap(
    body: bytes,
    depth: int,
    *,
    compression: int = 0,
    head: bytes = b"",
    height: int = 40,
    gap: int = 0,
) -> bytes:
    info = struct.pack(
        "<IiiHHIIiiII",
        40 if not head else 40 + len(head) % 100,
        61,
        height,
        1,
        depth,
        compression,
        len(body),
        0,
        0,
        0,
        0,
    )
    offset = 14 + 40 + len(head) + gap
    return (
        b"BM" + struct.pack("<III", offset + len(body), 0, offset) + info + head + bytes(gap) + body
    )


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
def test_masks_are_read_correctly(name, size):
    depth, *masks = MASKS[name]
    body, truth = packed(depth, *masks)
    head = struct.pack("<III", *masks) + bytes(max(size - 52, 0))
    data = bytearray(bitmap(body, depth, compression=3, head=head))
    struct.pack_into("<I", data, 14, size)
    np.testing.assert_array_equal(decode(bytes(data)), truth)


@pytest.mark.parametrize("depth", [16, 32])
def test_default_masks_apply_without_masks(depth):
    usual = {16: (0x7C00, 0x03E0, 0x001F), 32: (0xFF0000, 0xFF00, 0xFF)}[depth]
    body, truth = packed(depth, *usual)
    np.testing.assert_array_equal(decode(bitmap(body, depth)), truth)
    np.testing.assert_array_equal(decode(bitmap(body, depth, gap=10)), truth)


def test_rows_may_run_from_top_to_bottom():
    body, truth = packed(32, 0xFF0000, 0xFF00, 0xFF, flat=True)
    np.testing.assert_array_equal(decode(bitmap(body, 32, height=-40)), truth)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_files_of_pillow_decode_as_in_pillow(mode):
    image = Image.fromarray(PIXELS).convert(mode)
    np.testing.assert_array_equal(
        decode(photos.encode(image, "BMP")), np.asarray(image.convert("RGB"))
    )


@pytest.mark.parametrize(
    "masks",
    [
        (0, 0, 0),
        (0xF800, 0xF800, 0x1F),
        (0xF801, 0x7E0, 0x1E),
        (0xFF0000, 0xFF00, 0xFF),
        (0xF800, 0x7E0, 0),
    ],
    ids=["none", "twice the same", "holes", "beyond the pixel", "no blue"],
)
def test_invalid_masks_are_refused(masks):
    body, _ = packed(16, 0xF800, 0x07E0, 0x001F)
    with pytest.raises(InvalidImageError, match="masks"):
        decode(bitmap(body, 16, compression=3, head=struct.pack("<III", *masks)))


@pytest.mark.parametrize("offset", [0, 20, 53])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_headers_are_never_read_as_pixels(mode, offset):
    data = bytearray(photos.encode(Image.fromarray(PIXELS).convert(mode), "BMP"))
    struct.pack_into("<I", data, 10, offset)
    with pytest.raises(InvalidImageError, match="where its pixels begin"):
        decode(bytes(data))


@pytest.mark.parametrize(("depth", "compression"), [(16, 4), (24, 5), (24, 3), (2, 0), (64, 0)])
def test_other_kinds_are_refused(depth, compression):
    with pytest.raises(InvalidImageError, match="not decoded"):
        decode(bitmap(bytes(100_000), depth, compression=compression, head=bytes(12)))


@pytest.mark.parametrize("depth", [16, 32, 24, 8])
def test_truncated_pixels_are_refused(depth):
    with pytest.raises(InvalidImageError, match="ends before its image does"):
        decode(bitmap(bytes(1000), depth))


def test_damaged_files_raise_no_other_error():
    chance = random.Random(5)
    for depth in (16, 24, 32):
        data = bitmap(bytes(61 * 40 * 4 + 4000), depth)
        for _ in range(150):
            damaged = bytearray(data)
            damaged[chance.randrange(10, 54)] = chance.randrange(256)
            try:
                header = read_bmp(bytes(damaged))
                if header.width * header.height < 1e6:
                    assert decode(bytes(damaged)).shape[:2] == (header.height, header.width)
            except InvalidImageError:
                continue


def test_the_cost_of_a_picture_grows_with_its_pixels():
    costs = [
        read_bmp(photos.encode(Image.new("RGB", size), "BMP")).cost
        for size in ((40, 20), (80, 20), (80, 40))
    ]
    assert costs[1] == 2 * costs[0] > 0
    assert costs[2] == 4 * costs[0]
