"""JPEG by its markers: the expected pixels are those of the plain picture."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from tests.support import photos
from tests.support.image_files import exif, many_scans, segment, with_segments
from triton_python_backend.decoding import decode
from triton_python_backend.formats.header import MAX_PIECES, InvalidImageError
from triton_python_backend.formats.jpeg import MAX_SCAN_BLOCKS, _read_frame, read_jpeg

UP = photos.portrait().crop((56, 0, 456, 512)).resize((100, 128))
SIDE = UP.transpose(Image.Transpose.ROTATE_90)
KINDS = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "grey": {"grey": True},
    "progressive grey": {"progressive": True, "grey": True},
}


def jpeg(image: Image.Image = UP, *, grey: bool = False, **options: object) -> bytes:
    return photos.encode(image.convert("L") if grey else image, "JPEG", quality=95, **options)


def video(seed: int) -> bytes:
    """Bytes that phones append to a picture; every marker occurs in them by chance."""
    return b"MotionPhoto_Data\0\0\0\x18ftypmp42" + random.Random(seed).randbytes(100_000)


def thumbnail() -> bytes:
    return b"Exif\0\0" + photos.encode(UP.resize((16, 20)), "JPEG")


AROUND = {
    "video": lambda data: data + video(1),
    "another picture": lambda data: data + jpeg(SIDE),
    "half a picture": lambda data: data + jpeg(SIDE)[:900],
    "zeros": lambda data: data + bytes(5000),
    "start of a scan": lambda data: data + b"\xff\xda\xff\xda",
    "XMP": lambda data: with_segments(data, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")),
    "thumbnail": lambda data: with_segments(data, segment(0xE1, thumbnail())),
    "8BIM": lambda data: with_segments(data, segment(0xED, b"Photoshop 3.0\0008BIM\xff\xff")),
    "broken ICC": lambda data: with_segments(data, segment(0xE2, b"ICC_PROFILE\0\x09\x01" + b"x")),
    "broken MPF": lambda data: with_segments(data, segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff")),
    "short JFIF": lambda data: with_segments(data, segment(0xE0, b"JFIF\0")),
    "short Adobe": lambda data: with_segments(data, segment(0xEE, b"Adobe")),
    "comments": lambda data: with_segments(data, *[segment(0xFE, b"\xff\xd9" * 9000)] * 60),
    "length of zero": lambda data: with_segments(data, b"\xff\xe5\0\0"),
    "bytes between": lambda data: with_segments(data, segment(0xFE, b"") + b"\0\0garbage"),
    "fill bytes": lambda data: with_segments(data, b"\xff" * 50),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_around_a_picture_do_not_matter(kind, around):
    data = jpeg(**KINDS[kind])
    np.testing.assert_array_equal(decode(AROUND[around](data)), decode(data))


@pytest.mark.parametrize("seed", range(8))
def test_a_motion_photo_decodes_to_its_picture(seed):
    data = jpeg()
    np.testing.assert_array_equal(decode(data + video(seed)), decode(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"", b"\xff", b"\0" * 700, b"\xff\xff\xff"])
def test_a_picture_that_lacks_only_its_end_marker_is_read(kind, end):
    data = jpeg(**KINDS[kind])
    np.testing.assert_array_equal(decode(data[:-2] + end), decode(data))


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_end_marker_a_picture_ends_where_another_begins(kind):
    data = jpeg(**KINDS[kind])
    np.testing.assert_array_equal(decode(data[:-2] + jpeg(SIDE)), decode(data))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("end", [b"", b"\0" * 700])
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_lacks_pixels_is_refused(kind, share, end):
    data = jpeg(**KINDS[kind])
    with pytest.raises(InvalidImageError, match="ends before its image does"):
        decode(data[: int(len(data) * share)] + end)


@pytest.mark.parametrize("cut", [8, 20, 60])
def test_a_few_missing_bytes_are_noticed(cut):
    noise = Image.fromarray(
        np.random.default_rng(1).integers(0, 255, (128, 100, 3), dtype=np.uint8)
    )
    with pytest.raises(InvalidImageError, match="ends before its image does"):
        decode(jpeg(noise)[:-cut])


def test_missing_scans_are_noticed():
    data = jpeg(progressive=True)
    last = data.rfind(b"\xff\xda")
    with pytest.raises(InvalidImageError, match="ends before its image does"):
        read_jpeg(data[:last])


@pytest.mark.parametrize(
    "segments",
    [
        [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"), segment(0xE1, exif(6))],
        [segment(0xE1, exif(6)), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")],
        [segment(0xE1, b"Exif\0\0" + exif(6))],
        [segment(0xE1, b"Exif\0\0broken"), segment(0xE1, exif(6))],
        [segment(0xFE, b"words"), segment(0xE1, exif(6, order=">"))],
    ],
    ids=["behind XMP", "before XMP", "doubled", "behind a broken one", "behind words"],
)
def test_exif_is_found_in_any_segment(segments):
    data = with_segments(jpeg(SIDE), *segments)
    header = read_jpeg(data)
    assert (header.width, header.height) == (100, 128)
    np.testing.assert_array_equal(decode(data), np.rot90(decode(jpeg(SIDE)), -1))


def test_exif_behind_the_picture_does_not_count():
    assert read_jpeg(jpeg() + with_segments(jpeg(), segment(0xE1, exif(6)))).orientation == 1


def test_the_walk_ends_with_the_first_scan_too_many():
    blocks = 375 * 375
    allowed = 1 + (MAX_SCAN_BLOCKS - 3 * blocks) // blocks
    assert read_jpeg(many_scans(3000, allowed - 1)).format == "JPEG"
    # the walk ignores what follows that scan: it would be a fault of another kind
    data = many_scans(3000, allowed)[:-2] + segment(0xC0, b"")
    with pytest.raises(InvalidImageError, match="more scans than its size allows"):
        read_jpeg(data)


def test_a_progressive_picture_of_40_megapixels_is_allowed():
    header = read_jpeg(photos.encode(Image.new("RGB", (8000, 5000)), "JPEG", progressive=True))
    assert (header.width, header.height) == (8000, 5000)


def test_a_few_scans_more_cost_more_and_are_allowed():
    few, many = read_jpeg(many_scans(800, 5)), read_jpeg(many_scans(800, 60))
    assert many.cost > 5 * few.cost
    assert decode(many_scans(800, 60)).shape == (800, 800, 3)


def test_too_many_segments_are_refused():
    data = with_segments(jpeg(), segment(0xFE, b"") * (MAX_PIECES + 1))
    with pytest.raises(InvalidImageError, match="segments"):
        read_jpeg(data)


def test_a_file_of_one_repeated_byte_is_read_once():
    # a search that restarts at each of them would exceed the time limit of tests
    with pytest.raises(InvalidImageError):
        read_jpeg(b"\xff\xd8" + b"\xff" * 3_000_000)


@pytest.mark.parametrize("at", range(2, 700, 7))
def test_every_prefix_of_a_file_is_refused_or_read(at):
    with pytest.raises(InvalidImageError):
        decode(jpeg()[:at])


def test_damaged_files_raise_no_other_error():
    data, chance = bytearray(jpeg(progressive=True)), random.Random(3)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[chance.randrange(2, 900)] = chance.randrange(256)
        try:
            header = read_jpeg(bytes(damaged))
            pixels = decode(bytes(damaged))
        except InvalidImageError:
            continue
        assert pixels.shape[:2] == (header.height, header.width)


def test_adobe_colours_decode_as_in_pillow():
    rgb = photos.encode(UP, "JPEG", quality=95, keep_rgb=True)
    truth = np.asarray(Image.open(io.BytesIO(rgb)).convert("RGB"))
    assert np.abs(decode(rgb).astype(int) - truth).max() <= 2
    cmyk = photos.encode(UP.convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(cmyk).astype(int) - np.asarray(UP)).mean() < 4


def test_blocks_are_counted_as_they_are_sampled():
    # 100 x 50 pixels; luma twice as fine each way as the two chroma components
    components = bytes([1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    frame = _read_frame(b"\x08\x00\x32\x00\x64\x03" + components, progressive=False)
    assert (frame.width, frame.height) == (100, 50)
    assert frame.mcus == 7 * 4
    assert {name: each.blocks_in_mcu for name, each in frame.components.items()} == {
        1: 4,
        2: 1,
        3: 1,
    }
    assert {name: each.blocks for name, each in frame.components.items()} == {
        1: 13 * 7,
        2: 7 * 4,
        3: 7 * 4,
    }
