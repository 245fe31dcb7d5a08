"""Which decoders a caller's bytes can reach: those of JPEG, PNG, WebP and BMP, and no other.

OpenCV and Pillow choose a decoder by the first bytes, and know many more formats. Every one that
they can write is written here, others are made by hand; `imdecode` is watched.
"""

import io
from contextlib import suppress

import cv2
import numpy as np
import pytest
from PIL import Image, features

from gateway.errors import UnsupportedMediaTypeError
from gateway.images import ImageLimits, check_image
from triton_python_backend import decoding
from triton_python_backend.formats.header import InvalidImageError, UnknownFormatError
from triton_python_backend.formats.reader import FORMATS, read_header, sniff

LIMITS = ImageLimits(10_000_000, 40)
PIXELS = np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)
_BY_HAND = {
    "PSD": b"8BPS\x00\x01" + bytes(6) + b"\x00\x03\x00\x00\x000\x00\x00\x00@\x00\x08\x00\x03",
    "PDF": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n%%EOF",
    "SVG": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n",
    "EXR": b"\x76\x2f\x31\x01\x02\x00\x00\x00" + bytes(400),
    "HDR": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 48 +X 64\n" + bytes(4 * 48 * 64),
    "PFM": b"PF\n64 48\n-1.0\n" + bytes(4 * 3 * 64 * 48),
    "PAM": b"P7\nWIDTH 64\nHEIGHT 48\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(9216),
    "SUN": b"\x59\xa6\x6a\x95" + (64).to_bytes(4, "big") + bytes(9300),
    "AVIF": b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1miafMA1B" + bytes(200),
    "HEIC": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(200),
    "JPEG XL": b"\xff\x0a" + bytes(100),
    "JPEG XL in a box": b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a" + bytes(100),
    "codestream of JPEG 2000": b"\xff\x4f\xff\x51" + bytes(100),
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(100),
    "DICOM": bytes(128) + b"DICM" + bytes(100),
    "FITS": b"SIMPLE  =                    T" + bytes(2880),
    "XBM": b"#define x_width 64\n#define x_height 48\nstatic char x_bits[] = {0x00};",
    "XPM": b'/* XPM */\nstatic char *x[] = {"1 1 1 1", "a c #ffffff", "a"};',
    "WAV": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(40),
    "AVI": b"RIFF\x24\x00\x00\x00AVI LIST" + bytes(40),
    "text that begins as a BMP does": b"BMI of all patients, by year\n" * 40,
    "a MNG": b"\x8aMNG\r\n\x1a\n" + bytes(60),
    "JPEG without its third byte": b"\xff\xd8\x00\xe0" + bytes(60),
}
_CV2_SUFFIXES = (
    *(".tiff", ".tif", ".jp2", ".hdr", ".pic", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".pam", ".pfm", ".pxm", ".sr", ".ras", ".avif", ".gif", ".exr"),
)


@pytest.fixture(scope="module")
def others() -> dict[str, bytes]:
    """Files of all other formats that can be made here, by name."""
    made = dict(_BY_HAND)
    Image.init()
    for form in sorted(Image.SAVE):
        if form in FORMATS or form in {"DIB", "MPO"}:
            continue
        buffer = io.BytesIO()
        for mode in ("RGB", "L", "1", "P"):
            try:
                Image.fromarray(PIXELS).convert(mode).save(buffer, form)
            except (OSError, ValueError, KeyError, AttributeError):
                continue
            made[f"Pillow's {form}"] = buffer.getvalue()
            break
    for suffix in _CV2_SUFFIXES:
        pixels = PIXELS.astype(np.float32) if suffix in (".exr", ".pfm", ".hdr") else PIXELS
        for each in (pixels, pixels[..., 0]):
            try:
                ok, data = cv2.imencode(suffix, each)
            except cv2.error:
                continue
            if ok:
                made[f"OpenCV's {suffix}"] = data.tobytes()
                break
    return made


@pytest.fixture
def decoded(monkeypatch):
    """The bytes that reach OpenCV's decoder."""
    seen = []
    imdecode = cv2.imdecode

    def watched(data, flags):
        seen.append(bytes(data))
        return imdecode(data, flags)

    monkeypatch.setattr(cv2, "imdecode", watched)
    return seen


def test_many_formats_are_tried(others):
    names = " ".join(others)
    for name in ("TIFF", "GIF", "JPEG2000", "ICO", "PPM", "TGA", "PCX", ".jp2", ".hdr", ".ppm"):
        assert name in names, name
    assert features.check("avif") is False or "Pillow's AVIF" in others
    assert len(others) >= 45


def test_another_format_reaches_no_decoder(others, decoded):
    for name, data in others.items():
        assert sniff(data) is None, name
        with pytest.raises(UnsupportedMediaTypeError):
            check_image(data, LIMITS)
        with pytest.raises(UnknownFormatError):
            decoding.decode(data)
        assert decoded == [], name


STARTS = {
    "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "WEBP": b"RIFF\x00\x10\x00\x00WEBP",
    "BMP": b"BM\x00\x10\x00\x00\x00\x00\x00\x00",
}


@pytest.mark.parametrize("form", STARTS)
def test_a_polyglot_reaches_only_the_decoder_of_its_first_bytes(form, others, decoded):
    """A file that begins as one format and goes on as another."""
    for name, other in others.items():
        for data in (STARTS[form] + other, STARTS[form] + other[len(STARTS[form]) :]):
            # some are images of the format that they begin as
            with suppress(InvalidImageError):
                decoding.decode(data)
        assert {sniff(each) for each in decoded} <= {form}, name
        decoded.clear()


@pytest.mark.parametrize("name", ["Pillow's TIFF", "Pillow's GIF", "PDF", "OpenCV's .jp2"])
def test_what_follows_an_image_is_not_decoded(name, others, decoded):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    found = decoding.decode(buffer.getvalue() + others[name])
    assert np.array_equal(found, PIXELS)
    assert all(others[name][:8] not in each for each in decoded)


@pytest.mark.parametrize("form", ["JPEG", "BMP"])
def test_bytes_of_another_format_than_their_header_are_refused(form, decoded):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, form)
    header = read_header(buffer.getvalue())
    with pytest.raises(InvalidImageError, match="different formats"):
        decoding.decode_with(header, b"II*\x00" + bytes(len(buffer.getvalue())))
    assert decoded == []
