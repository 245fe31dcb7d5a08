"""WebP by its chunks: the expected pixels are those of the plain picture."""

import random
import struct

import numpy as np
import pytest
from PIL import Image

from tests.support import photos
from tests.support.image_files import exif, tiff
from triton_python_backend.decoding import decode
from triton_python_backend.formats.header import InvalidImageError
from triton_python_backend.formats.webp import _chunks, read_webp

UP = photos.portrait().crop((56, 0, 456, 512)).resize((100, 128))
SIDE = UP.transpose(Image.Transpose.ROTATE_90)
KINDS = {
    "lossless": {"lossless": True},
    "lossy": {"quality": 80},
    "with alpha": {"quality": 80, "alpha": True},
    "extended": {"lossless": True, "exif": b"Exif\0\0"},
}
NEGATIVE_RATIONAL = (0x9204, 10, struct.pack("<I", 38))


def webp(image: Image.Image = UP, *, alpha: bool = False, **options: object) -> bytes:
    return photos.encode(image.convert("RGBA") if alpha else image, "WEBP", **options)


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_that_of_the_pixels(kind):
    data = webp(**KINDS[kind])
    assert (read_webp(data).width, read_webp(data).height) == (100, 128)
    assert decode(data).shape == (128, 100, 3)
    assert np.abs(decode(data).astype(int) - np.asarray(UP)).mean() < 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "extra",
    [
        riff_chunk(b"ICCP", b"broken"),
        riff_chunk(b"XMP ", b"<x" * 50_001),
        riff_chunk(b"EXIF", b"II*\0\xff\xff\xff\xff"),
        riff_chunk(b"abcd", b"?"),
        b"ICCP\xff\xff\xff\x7fcut",
        b"trailing",
        b"x",
    ],
)
def test_bytes_after_the_picture_do_not_matter(kind, extra):
    data = webp(**KINDS[kind])
    np.testing.assert_array_equal(decode(data + extra), decode(data))


@pytest.mark.parametrize(
    "block", [tiff(6), exif(6), b"Exif\0\0" + exif(6), tiff(6, NEGATIVE_RATIONAL)]
)
def test_exif_is_found(block):
    data = webp(SIDE, lossless=True, exif=block)
    assert (read_webp(data).width, read_webp(data).height) == (100, 128)
    np.testing.assert_array_equal(decode(data), np.asarray(UP))


def test_exif_counts_although_the_total_size_omits_it():
    data = webp(SIDE, lossless=True) + riff_chunk(b"EXIF", tiff(6))
    np.testing.assert_array_equal(decode(data), np.asarray(UP))


def test_an_animation_decodes_to_its_first_picture():
    data = webp(save_all=True, append_images=[SIDE.resize(UP.size)], lossless=True)
    np.testing.assert_array_equal(decode(data), np.asarray(UP))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_lacks_pixels_is_refused(kind, share):
    data = webp(**KINDS[kind])
    with pytest.raises(InvalidImageError):
        decode(data[: int(len(data) * share)])


def test_a_file_without_a_picture_is_refused():
    with pytest.raises(InvalidImageError, match="no picture"):
        read_webp(b"RIFF\x12\0\0\0WEBP" + riff_chunk(b"VP8X", bytes(10)))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_raise_no_other_error(kind):
    data, chance = webp(**KINDS[kind]), random.Random(5)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[chance.randrange(12, 60)] = chance.randrange(256)
        try:
            header = read_webp(bytes(damaged))
            if header.width * header.height < 1e6:
                assert decode(bytes(damaged)).shape[:2] == (header.height, header.width)
        except InvalidImageError:
            continue


def test_chunks_are_padded_to_pairs_of_bytes_from_where_they_begin():
    data = riff_chunk(b"ABCD", b"xyz") + riff_chunk(b"EFGH", b"xy")
    for lead in (b"", b"?", b"??"):
        found = list(_chunks(lead + data, len(lead), len(lead + data)))
        kinds = [(kind, end - start) for kind, start, end in found]
        assert kinds == [(b"ABCD", 3), (b"EFGH", 2)]


def test_half_a_head_is_no_chunk():
    data = riff_chunk(b"ABCD", b"")
    assert len(list(_chunks(data, 0, len(data)))) == 1
    assert list(_chunks(data[:-1], 0, len(data) - 1)) == []
