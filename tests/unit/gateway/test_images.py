"""Images are checked by their header; their upright size equals what `face_preprocess` decodes."""

import hashlib
import struct
import zlib

import pytest
from PIL import Image

from gateway.errors import ImageTooLargeError, InvalidImageError, UnsupportedMediaTypeError
from gateway.images import ImageLimits, check_image
from tests.support import photos
from tests.support.image_files import many_scans
from triton_python_backend import decoding
from triton_python_backend.formats.reader import sniff

LIMITS = ImageLimits(max_bytes=1_000_000, max_megapixels=40)


def picture(size=(30, 20)) -> Image.Image:
    return Image.new("RGB", size, (200, 100, 50))


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and contains no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_accepted_formats_are_recognised_by_content(kind):
    data = photos.encode(picture(), kind)
    image = check_image(data, LIMITS)
    assert (image.format, image.width, image.height) == (kind, 30, 20)
    assert image.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"exif": b"Exif"}])
def test_the_size_is_read_from_all_three_kinds_of_webp(options):
    assert check_image(photos.encode(picture((33, 21)), "WEBP", **options), LIMITS).width == 33


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "ICO", "PPM"])
def test_other_formats_are_refused(kind):
    with pytest.raises(UnsupportedMediaTypeError):
        check_image(photos.encode(picture(), kind), LIMITS)


@pytest.mark.parametrize("data", [b"hello", b"BM but no bitmap", b"\x00" * 100, b"<svg/>"])
def test_arbitrary_bytes_are_refused(data):
    assert sniff(data) is None
    with pytest.raises(UnsupportedMediaTypeError):
        check_image(data, LIMITS)


def test_empty_data_are_refused():
    with pytest.raises(InvalidImageError, match="no bytes"):
        check_image(b"", LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_start_without_a_header_is_invalid(kind):
    data = photos.encode(picture(), kind)[:16]
    with pytest.raises(InvalidImageError):
        check_image(data, LIMITS)


def test_bytes_are_limited():
    data = photos.encode(picture())
    assert check_image(data, ImageLimits(len(data), 40))
    with pytest.raises(ImageTooLargeError, match="bytes"):
        check_image(data, ImageLimits(len(data) - 1, 40))


def test_pixels_are_limited_exactly():
    data = photos.encode(picture((100, 100)))
    assert check_image(data, ImageLimits(10**6, 0.01))
    with pytest.raises(ImageTooLargeError, match="100 x 100"):
        check_image(data, ImageLimits(10**6, 0.009999))


@pytest.mark.parametrize("edge", [10_000, 30_000, 2**31 - 1])
def test_a_bomb_is_refused_by_its_header(edge):
    with pytest.raises(ImageTooLargeError, match="megapixels"):
        check_image(png_header(edge, edge), LIMITS)


def test_a_webp_bomb_is_refused_by_its_header():
    body = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + b"\xff" * 4 + b"\0"
    data = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    with pytest.raises(ImageTooLargeError, match="16384 x 16384"):
        check_image(data, LIMITS)


def test_more_scans_than_the_size_allows_are_refused():
    with pytest.raises(InvalidImageError, match="more scans than its size allows"):
        check_image(many_scans(2000, 600), LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_upright_size_is_the_decoded_size(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = photos.encode(picture(), kind, exif=exif)
    image = check_image(data, LIMITS)
    assert (image.height, image.width) == decoding.decode(data).shape[:2]
    assert (image.width, image.height) == ((20, 30) if orientation > 4 else (30, 20))


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_a_broken_orientation_is_ignored(exif):
    assert check_image(photos.encode(picture(), "JPEG", exif=exif), LIMITS).width == 30


KINDS = {
    "grey": lambda: photos.encode(picture().convert("L"), "JPEG"),
    "cmyk": lambda: photos.encode(picture().convert("CMYK"), "JPEG"),
    "alpha": lambda: photos.encode(picture().convert("RGBA")),
    "palette": lambda: photos.encode(picture().convert("P")),
    "16 bits": lambda: photos.encode(Image.new("I;16", (30, 20))),
    "alpha webp": lambda: photos.encode(picture().convert("RGBA"), "WEBP"),
    "animated webp": lambda: photos.encode(
        picture(), "WEBP", save_all=True, append_images=[Image.new("RGB", (30, 20))]
    ),
    "animated png": lambda: photos.encode(
        picture(), "PNG", save_all=True, append_images=[Image.new("RGB", (30, 20))]
    ),
    "multi-picture jpeg": lambda: photos.encode(
        picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (30, 20))]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_the_stage_decodes_pass_with_the_same_size(kind):
    data = KINDS[kind]()
    image = check_image(data, LIMITS)
    assert (image.height, image.width) == decoding.decode(data).shape[:2] == (20, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_one_pixel_is_an_image(kind):
    assert check_image(photos.encode(picture((1, 1)), kind), LIMITS).width == 1


def test_pixels_are_never_decoded(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("decoded")

    monkeypatch.setattr("cv2.imdecode", refuse)
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        data = photos.encode(Image.new("L", (9, 9)), kind)
        assert check_image(data, LIMITS).width == 9
        with pytest.raises(AssertionError, match="decoded"):
            decoding.decode(data)
