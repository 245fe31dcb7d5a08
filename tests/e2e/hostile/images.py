"""Images that lie about their size, their length or their kind, and bombs."""

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from tests.e2e.hostile.case import (
    BAD_IMAGE,
    FINE,
    NO_FACE,
    TOO_LARGE,
    UNKNOWN_TYPE,
    Case,
    Expected,
)
from tests.e2e.hostile.wire import IMAGE_ROUTES, to_all
from tests.support.image_files import (
    chunk,
    exif,
    many_scans,
    segment,
    tiff,
    with_chunks,
    with_segments,
)

NOTHING_FOUND: dict[str, Expected] = {"detect": FINE, "embed": FINE, "infer": FINE}
"""Routes on which an image without a face is no error."""
_NOISE = np.random.default_rng(11).integers(0, 60, (24, 40, 3), dtype=np.uint8)
_ROUTES = tuple(IMAGE_ROUTES)


def cases() -> Iterator[Case]:
    """Yield all images; the routes take turns, and every twentieth goes to all."""
    for number, (name, image, expected) in enumerate(_all()):
        routes = _ROUTES if number % 20 == 0 else (_ROUTES[number % len(_ROUTES)],)
        others = NOTHING_FOUND if expected == NO_FACE else {}
        yield Case("images", name, to_all(image, routes), expected, others)


def _all() -> Iterator[tuple[str, bytes, Expected]]:
    yield from _jpegs()
    yield from _pngs()
    yield from _webps()
    yield from _bitmaps()
    yield from _of_other_kinds()


def encoded(suffix: str, *options: int) -> bytes:
    """Encode a small picture of dark noise."""
    return bytes(cv2.imencode(suffix, _NOISE, list(options))[1])


def _cut(name: str, data: bytes, ends: list[int]) -> Iterator[tuple[str, bytes, Expected]]:
    for end in ends:
        yield f"{name} cut after {end} bytes", data[:end], BAD_IMAGE


def _with_frame(jpeg: bytes, change: bytes, at: int) -> bytes:
    """Change bytes of the frame header; `at` counts from its marker."""
    start = jpeg.index(b"\xff\xc0") + at
    return jpeg[:start] + change + jpeg[start + len(change) :]


def _jpegs() -> Iterator[tuple[str, bytes, Expected]]:
    jpeg = encoded(".jpg")
    frame, scan = jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xda")
    table = jpeg.index(b"\xff\xc4")
    yield "JPEG of 65535 x 65535", _with_frame(jpeg, b"\xff\xff\xff\xff", 5), TOO_LARGE
    yield "JPEG of 65535 x 1", _with_frame(jpeg, b"\xff\xff\0\1", 5), BAD_IMAGE
    yield "JPEG without width", _with_frame(jpeg, b"\0\0", 7), BAD_IMAGE
    yield "JPEG without height", _with_frame(jpeg, b"\0\0", 5), BAD_IMAGE
    yield "JPEG of 12 bits", _with_frame(jpeg, b"\x0c", 4), BAD_IMAGE
    yield "JPEG of 255 components", _with_frame(jpeg, b"\xff", 9), BAD_IMAGE
    yield "JPEG without components", _with_frame(jpeg, b"\0", 9), BAD_IMAGE
    yield "JPEG sampled 0 x 0", _with_frame(jpeg, b"\0", 11), BAD_IMAGE
    yield "JPEG sampled 15 x 15", _with_frame(jpeg, b"\xff", 11), BAD_IMAGE
    yield "JPEG with quantiser 15", _with_frame(jpeg, b"\x0f", 12), BAD_IMAGE
    for marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        yield f"JPEG of frame {marker:#x}", _with_frame(jpeg, bytes([marker]), 1), BAD_IMAGE
    twice = jpeg[:scan] + jpeg[frame : jpeg.index(b"\xff\xc4")] + jpeg[scan:]
    yield "JPEG of two frames", twice, BAD_IMAGE
    yield "JPEG whose scan comes first", jpeg[:2] + jpeg[scan:], BAD_IMAGE
    yield "JPEG of thousands of scans", many_scans(1024, 2600), BAD_IMAGE
    one_scan = segment(0xDA, b"\1\1\0\0\0\0")
    yield "JPEG of 20,000 scans", jpeg[:-2] + one_scan * 20_000 + b"\xff\xd9", BAD_IMAGE
    yield (
        "JPEG of 255 components in a scan",
        (jpeg[:scan] + segment(0xDA, b"\xff" + b"\1\0" * 255 + b"\0\x3f\0") + b"\xff\xd9"),
        BAD_IMAGE,
    )
    yield (
        "JPEG with a scan of nothing",
        (jpeg[:scan] + segment(0xDA, b"\0\0\x3f\0") + b"\xff\xd9"),
        BAD_IMAGE,
    )
    yield (
        "JPEG with a scan of an unknown component",
        (jpeg[:scan] + segment(0xDA, b"\1\x63\0\0\x3f\0") + b"\xff\xd9"),
        BAD_IMAGE,
    )
    yield "JPEG of 20,000 comments", with_segments(jpeg, segment(0xFE, b"") * 20_000), BAD_IMAGE
    huge_table = segment(0xC4, (b"\0" + b"\xff" * 16 + bytes(4080)) * 15)
    yield "JPEG with a huge Huffman table", jpeg[:table] + huge_table + jpeg[table:], BAD_IMAGE
    looped = b"II" + struct.pack("<HIH", 42, 8, 65535) + struct.pack("<HHII", 0x8769, 4, 1, 8)
    yield (
        "JPEG with an Exif block that holds itself",
        with_segments(jpeg, segment(0xE1, b"Exif\0\0" + looped)),
        NO_FACE,
    )
    yield (
        "JPEG with Exif beyond its end",
        with_segments(jpeg, segment(0xE1, b"Exif\0\0II" + struct.pack("<HI", 42, 0xFFFFFFFF))),
        NO_FACE,
    )
    yield "JPEG with orientation 65535", with_segments(jpeg, segment(0xE1, exif(65535))), NO_FACE
    yield (
        "JPEG with 60 Exif blocks",
        with_segments(jpeg, *[segment(0xE1, exif(None))] * 60),
        NO_FACE,
    )
    colour = b"ICC_PROFILE\0\xff\0" + b"\xff" * 60_000
    yield (
        "JPEG with a colour profile of nonsense",
        with_segments(jpeg, segment(0xE2, colour)),
        NO_FACE,
    )
    yield (
        "JPEG with Adobe's transform 255",
        with_segments(jpeg, segment(0xEE, b"Adobe\0d\0\0\0\0\xff")),
        NO_FACE,
    )
    yield "JPEG that ends at once", b"\xff\xd8\xff\xd9", BAD_IMAGE
    yield "JPEG of starts only", b"\xff\xd8" * 5000, BAD_IMAGE
    yield "JPEG of 0xFF", b"\xff\xd8" + b"\xff" * 200_000, BAD_IMAGE
    yield "JPEG whose segment is longer than the file", b"\xff\xd8\xff\xe0\xff\xff", BAD_IMAGE
    yield "JPEG and then a ZIP", jpeg + b"PK\3\4" + bytes(500), NO_FACE
    yield "JPEG and then HTML", jpeg + b"<script>alert(1)</script>", NO_FACE
    yield from _cut(
        "JPEG",
        jpeg,
        [3, 4, 11, 20, 60, frame, frame + 4, frame + 19, table + 3, scan + 2, scan + 8],
    )


def _ihdr(width: int, height: int, depth: int = 8, colours: int = 2, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced))


def _pngs() -> Iterator[tuple[str, bytes, Expected]]:
    png = encoded(".png")
    start, rest = png[:8], png[33:]
    pixels = chunk(b"IDAT", zlib.compress(bytes(40 * 24 * 3 + 24)))
    end = chunk(b"IEND", b"")
    for width, height in ((2**31 - 1, 2**31 - 1), (65535, 65535), (40_000_001, 1), (1, 2**32 - 1)):
        yield f"PNG of {width} x {height}", start + _ihdr(width, height) + rest, TOO_LARGE
    yield "PNG of no width", start + _ihdr(0, 24) + rest, BAD_IMAGE
    yield "PNG of no height", start + _ihdr(40, 0) + rest, BAD_IMAGE
    for depth in (0, 3, 64, 255):
        yield f"PNG of {depth} bits", start + _ihdr(40, 24, depth) + rest, BAD_IMAGE
    for colours in (1, 5, 7, 255):
        yield f"PNG of colour type {colours}", start + _ihdr(40, 24, 8, colours) + rest, BAD_IMAGE
    yield "PNG interlaced 255", start + _ihdr(40, 24, interlaced=255) + rest, BAD_IMAGE
    yield "PNG without a palette", start + _ihdr(40, 24, 8, 3) + pixels + end, BAD_IMAGE
    yield (
        "PNG whose header has a wrong CRC",
        start + chunk(b"IHDR", png[16:29], check=1) + rest,
        BAD_IMAGE,
    )
    yield (
        "PNG whose pixels have a wrong CRC",
        (png[:33] + chunk(b"IDAT", pixels[8:-4], check=1) + end),
        BAD_IMAGE,
    )
    yield "PNG whose header has 12 bytes", start + chunk(b"IHDR", png[16:28]) + rest, BAD_IMAGE
    yield "PNG without a header", start + pixels + end, BAD_IMAGE
    yield "PNG without pixels", png[:33] + end, BAD_IMAGE
    yield "PNG whose pixels are no zlib", png[:33] + chunk(b"IDAT", b"x" * 500) + end, BAD_IMAGE
    yield (
        "PNG with too few pixels",
        png[:33] + chunk(b"IDAT", zlib.compress(bytes(50))) + end,
        BAD_IMAGE,
    )
    bomb = zlib.compress(bytes(64 << 20), 9)
    yield "PNG whose pixels are a zlib bomb", png[:33] + chunk(b"IDAT", bomb) + end, NO_FACE
    yield "PNG with a text bomb", with_chunks(png, chunk(b"zTXt", b"a\0\0" + bomb)), NO_FACE
    raw = b"Raw profile type exif\0\0" + zlib.compress(b"a " * (8 << 20), 9)
    yield "PNG with an Exif bomb", with_chunks(png, *[chunk(b"zTXt", raw)] * 40), NO_FACE
    yield "PNG with a profile bomb", with_chunks(png, chunk(b"iCCP", b"a\0\0" + bomb)), NO_FACE
    yield (
        "PNG with an Exif loop",
        with_chunks(png, chunk(b"eXIf", b"MM" + struct.pack(">HI", 42, 0) + bytes(60))),
        NO_FACE,
    )
    yield "PNG of 20,000 chunks", with_chunks(png, chunk(b"abCd", b"") * 20_000), BAD_IMAGE
    yield (
        "PNG with an empty chunk of pixels 9,000 times",
        (png[:33] + chunk(b"IDAT", b"") * 9000 + png[33:]),
        NO_FACE,
    )
    for length in (0x7FFFFFFF, 0xFFFFFFFF):
        lie = struct.pack(">I", length) + b"IDAT" + rest[8:]
        yield f"PNG whose chunk says {length:#x} bytes", png[:33] + lie, BAD_IMAGE
    yield "PNG of two headers", png[:33] + _ihdr(9000, 9000) + rest, BAD_IMAGE
    yield "PNG and then a PNG of 65535 x 65535", png + start + _ihdr(65535, 65535), NO_FACE
    yield "PNG with a script", with_chunks(png, chunk(b"tEXt", b"a\0<script>x</script>")), NO_FACE
    yield from _cut("PNG", png, [8, 12, 16, 24, 29, 33, 37, 41, 60, len(png) // 2])


def _riff(*chunks: bytes, size: int = 0) -> bytes:
    return b"RIFF" + struct.pack("<I", size) + b"WEBP" + b"".join(chunks)


def _piece(kind: bytes, body: bytes, size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    return kind + struct.pack("<I", length) + body + b"\0" * (len(body) % 2)


def _webps() -> Iterator[tuple[str, bytes, Expected]]:
    lossy, lossless = (
        encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 70),
        encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    )
    body, plain = lossy[20:], lossless[20:]
    yield (
        "WebP of 16383 x 16383",
        _riff(_piece(b"VP8 ", body[:6] + b"\xff\x3f\xff\x3f" + body[10:])),
        TOO_LARGE,
    )
    yield (
        "lossless WebP of 16384 x 16384",
        _riff(_piece(b"VP8L", b"\x2f\xff\xff\xff\x0f" + plain[5:])),
        TOO_LARGE,
    )
    yield "WebP of no width", _riff(_piece(b"VP8 ", body[:6] + bytes(2) + body[8:])), BAD_IMAGE
    yield "WebP of no height", _riff(_piece(b"VP8 ", body[:8] + bytes(2) + body[10:])), BAD_IMAGE
    yield (
        "WebP without its start code",
        _riff(_piece(b"VP8 ", body[:3] + b"xyz" + body[6:])),
        BAD_IMAGE,
    )
    yield "lossless WebP without its mark", _riff(_piece(b"VP8L", b"\x30" + plain[1:])), BAD_IMAGE
    yield "WebP with bits of noise", _riff(_piece(b"VP8L", plain[:5] + b"\xff" * 400)), BAD_IMAGE
    yield "WebP of an alpha plane only", _riff(_piece(b"ALPH", b"\0" * 90)), BAD_IMAGE
    canvas = _piece(b"VP8X", b"\x10\0\0\0\xff\xff\xff\xff\xff\xff")
    yield "WebP without a picture on its canvas", _riff(canvas), BAD_IMAGE
    yield "WebP with a canvas of 16777216 x 16777216", _riff(canvas, _piece(b"VP8 ", body)), NO_FACE
    yield "WebP whose chunk says 4 GB", _riff(_piece(b"VP8 ", body, 0xFFFFFFFE)), NO_FACE
    yield "WebP whose chunk says nothing", _riff(_piece(b"VP8 ", body, 0)), BAD_IMAGE
    yield "WebP of 20,000 chunks", _riff(_piece(b"abcd", b"") * 20_000, lossy[12:]), BAD_IMAGE
    frame = _piece(b"ANMF", bytes(16) + _piece(b"abcd", b"") * 9000)
    yield "WebP with 60,000 chunks in frames", _riff(frame * 7, lossy[12:]), BAD_IMAGE
    yield "WebP of empty frames", _riff(_piece(b"ANMF", bytes(16)) * 500), BAD_IMAGE
    nested = lossy[12:]
    for _ in range(40):
        nested = _piece(b"ANMF", bytes(16) + nested)
    yield "WebP of frames within frames", _riff(nested), BAD_IMAGE
    yield "WebP with 60 Exif blocks", _riff(lossy[12:], _piece(b"EXIF", tiff(None)) * 60), NO_FACE
    yield "WebP that says to have 4 GB", _riff(lossy[12:], size=0xFFFFFFFF), NO_FACE
    yield from _cut("WebP", lossy, [12, 15, 16, 20, 23, 26, 29, 30, 34])
    yield from _cut("lossless WebP", lossless, [20, 21, 24, 25, 30])


def _bitmap(
    width: int = 40,
    height: int = 24,
    depth: int = 24,
    compression: int = 0,
    offset: int = 54,
    size: int = 40,
    body: bytes = bytes(2880),
    colours: int = 0,
) -> bytes:
    info = struct.pack(
        "<IiiHHIIiiII", size, width, height, 1, depth, compression, 0, 0, 0, colours, 0
    )
    return b"BM" + struct.pack("<IHHI", 14 + len(info) + len(body), 0, 0, offset) + info + body


def _bitmaps() -> Iterator[tuple[str, bytes, Expected]]:
    bitmap = encoded(".bmp")
    # the pixels of these are not there, whatever their size
    yield "BMP of 2147483647 x 2147483647", _bitmap(2**31 - 1, 2**31 - 1), BAD_IMAGE
    yield "BMP of height -2147483648", _bitmap(1, -(2**31)), BAD_IMAGE
    yield "BMP of negative width", _bitmap(-40), BAD_IMAGE
    yield "BMP of no width", _bitmap(0), BAD_IMAGE
    yield "BMP of no height", _bitmap(40, 0), BAD_IMAGE
    for depth in (0, 2, 3, 64, 65535):
        yield f"BMP of {depth} bits", _bitmap(depth=depth), BAD_IMAGE
    for compression in (4, 5, 11, 12, 13, 0xFFFFFFFF):
        yield f"BMP of compression {compression:#x}", _bitmap(compression=compression), BAD_IMAGE
    yield "BMP of 24 bits in RLE", _bitmap(compression=1), BAD_IMAGE
    for offset in (0, 13, 53, 5000, 0x7FFFFFFF, 0xFFFFFFFF):
        yield f"BMP whose pixels begin at {offset:#x}", _bitmap(offset=offset), BAD_IMAGE
    for size in (0, 11, 13, 0x7FFFFFFF, 0xFFFFFFFF):
        yield f"BMP whose header says {size:#x} bytes", _bitmap(size=size), BAD_IMAGE
    yield (
        "BMP in RLE of 60000 x 60000",
        _bitmap(60_000, 60_000, 8, 1, 1078, body=bytes(1100)),
        TOO_LARGE,
    )
    yield (
        "BMP in RLE with nothing",
        _bitmap(4000, 4000, 8, 1, 1078, body=bytes(1024) + b"\0\1"),
        NO_FACE,
    )
    jump = b"\0\2\xff\xff" * 400
    yield "BMP in RLE that jumps out", _bitmap(40, 24, 8, 1, 1078, body=bytes(1024) + jump), NO_FACE
    yield (
        "BMP with 4 billion colours",
        _bitmap(depth=8, offset=1078, body=bytes(2000), colours=2**32 - 1),
        BAD_IMAGE,
    )
    masks = struct.pack("<III", 0xFF, 0xFF, 0xFF)
    yield "BMP whose masks overlap", _bitmap(40, 24, 32, 3, 66, body=masks + bytes(3840)), BAD_IMAGE
    holes = struct.pack("<III", 0xF0F, 0xF0, 0xF0000000)
    yield (
        "BMP whose masks have holes",
        _bitmap(40, 24, 32, 3, 66, body=holes + bytes(3840)),
        BAD_IMAGE,
    )
    yield "BMP without masks", _bitmap(40, 24, 16, 3, 66, body=bytes(12) + bytes(1920)), BAD_IMAGE
    core = b"BM" + struct.pack("<IHHIIHHHH", 26, 0, 0, 26, 12, 65535, 65535, 1, 1)
    yield "BMP of OS/2 of 65535 x 65535", core, BAD_IMAGE
    yield from _cut("BMP", bitmap, [10, 14, 18, 26, 30, 53, 54, 90, len(bitmap) - 1])


def _of_other_kinds() -> Iterator[tuple[str, bytes, Expected]]:
    """Bytes of formats whose decoders must not be reached, and of none."""
    svg = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>'
    laughs = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb">' + b"".join(
        b'<!ENTITY b%d "%s">' % (level, b"&b%d;" % (level - 1) * 10) for level in range(1, 10)
    )
    kinds = {
        "GIF": b"GIF89a\xff\xff\xff\xff\xf7\0\0" + bytes(800),
        "TIFF": tiff(6) + bytes(500),
        "big-endian TIFF": tiff(6, order=">") + bytes(500),
        "SVG that names a file": svg,
        "XML of a billion laughs": laughs + b"]><a>&b9;</a>",
        "PDF": b"%PDF-1.7\n1 0 obj\n<</Length 99>>\n",
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(200),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
        "JPEG 2000 code stream": b"\xff\x4f\xff\x51" + bytes(200),
        "JPEG XL": b"\xff\x0a" + bytes(100),
        "OpenEXR": b"v/1\1\2\0\0\0" + bytes(200),
        "Radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n",
        "PNM": b"P6 99999 99999 255\n" + bytes(300),
        "PAM": b"P7\nWIDTH 99999\nHEIGHT 99999\nDEPTH 4\nENDHDR\n",
        "PFM": b"PF\n99999 99999\n-1.0\n",
        "Sun raster": b"\x59\xa6\x6a\x95" + b"\xff" * 60,
        "icon": b"\0\0\1\0\1\0" + bytes(60),
        "PostScript": b"%!PS-Adobe-3.0\n(/etc/passwd) (r) file run",
        "ELF": b"\x7fELF\2\1\1" + bytes(200),
        "shell script": b"#!/bin/sh\ncat /etc/passwd\n",
        "HTML": b"<html><script>alert(document.cookie)</script>",
        "ZIP": b"PK\3\4" + bytes(90),
        "pickle": b"\x80\4cposix\nsystem\n.",
        "zeros": bytes(4000),
        "RIFF of sound": b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(200),
        "text that begins as BMP": b"BMX is a sport" + bytes(50),
        "half a mark of JPEG": b"\xff\xd8",
        "half a mark of PNG": b"\x89PNG\r\n\x1a",
        "half a mark of WebP": b"RIFF\0\0\0\0WEB",
    }
    for name, data in kinds.items():
        yield name, data, UNKNOWN_TYPE
    yield "no bytes", b"", BAD_IMAGE
