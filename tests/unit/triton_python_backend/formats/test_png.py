"""PNG by its chunks: the expected pixels are those of the plain picture."""

import io
import random
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.support import photos
from tests.support.image_files import chunk, exif, tiff, with_chunks
from triton_python_backend.decoding import decode
from triton_python_backend.formats.header import MAX_PIECES, InvalidImageError
from triton_python_backend.formats.png import read_png

UP = photos.portrait().crop((56, 0, 456, 512)).resize((100, 128))
SIDE = UP.transpose(Image.Transpose.ROTATE_90)
PNG = photos.encode(UP)

METADATA = {
    "text of 2 MB": chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 2_000_000)),
    "plain text of 2 MB": chunk(b"tEXt", b"prompt\0" + b"y" * 2_000_000),
    "profile of 2 MB": chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2_000_000))),
    "text of 1 GB": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(1 << 26))),
    "broken profile": chunk(b"iCCP", b"p\0\0broken"),
    "broken text": chunk(b"zTXt", b"t\0\0broken"),
    "broken Exif": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "wrong CRC of a text": chunk(b"tEXt", b"a\0b", check=7),
    "wrong CRC of gamma": chunk(b"gAMA", b"\0\0\xb1\x8f", check=7),
    "wrong length of gamma": chunk(b"gAMA", b"\0"),
    "wrong transparency": chunk(b"tRNS", b"\0"),
    "a palette that is not needed": chunk(b"PLTE", bytes(7)),
    "unknown": chunk(b"abCd", b"?" * 1000),
    "broken animation": chunk(b"acTL", b"\xff" * 8),
    "many": chunk(b"tEXt", b"a\0b") * 3000,
}


@pytest.mark.parametrize("kind", METADATA)
def test_metadata_never_make_a_picture_fail(kind):
    np.testing.assert_array_equal(decode(with_chunks(PNG, METADATA[kind])), decode(PNG))


@pytest.mark.parametrize(
    "data",
    [PNG + b"trailing", PNG[:-12], PNG[:-4], PNG[:-12] + chunk(b"IEND", b"", check=1)],
    ids=["trailing", "no end", "half an end", "wrong CRC of the end"],
)
def test_the_end_chunk_does_not_matter(data):
    np.testing.assert_array_equal(decode(data), decode(PNG))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("chunk_bytes", [65536, 500])
def test_a_picture_that_lacks_pixels_is_refused(share, chunk_bytes):
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(UP)))
    parts = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)]
    data = PNG[:33] + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode(data), np.asarray(UP))
    with pytest.raises(InvalidImageError):
        decode(data[: int(len(data) * share)])


RAW = b"\nexif\n      %8d\n" % len(exif(6)) + exif(6).hex().encode()
EXIF = {
    "before": lambda png: with_chunks(png, chunk(b"eXIf", tiff(6))),
    "after": lambda png: png[:-12] + chunk(b"eXIf", tiff(6)) + png[-12:],
    "with JPEG's header": lambda png: with_chunks(png, chunk(b"eXIf", exif(6))),
    "doubled": lambda png: with_chunks(png, chunk(b"eXIf", b"Exif\0\0" + exif(6))),
    "big-endian": lambda png: with_chunks(png, chunk(b"eXIf", tiff(6, order=">"))),
    "raw profile": lambda png: with_chunks(png, chunk(b"tEXt", b"Raw profile type exif\0" + RAW)),
    "packed raw profile": lambda png: with_chunks(
        png, chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(RAW))
    ),
    "wrong CRC": lambda png: with_chunks(png, chunk(b"eXIf", tiff(6), check=3)),
}


@pytest.mark.parametrize("kind", EXIF)
def test_exif_is_found_in_every_place_of_a_png(kind):
    data = EXIF[kind](photos.encode(SIDE))
    header = read_png(data)
    assert (header.width, header.height) == (100, 128)
    np.testing.assert_array_equal(decode(data), np.asarray(UP))


MODES = ["1", "L", "LA", "P", "RGB", "RGBA"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_decodes_as_in_pillow(mode):
    image = UP.convert(mode)
    data = photos.encode(image)
    truth = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(data), truth)


def test_an_animation_decodes_to_its_still_picture():
    data = photos.encode(UP, save_all=True, append_images=[SIDE.resize(UP.size)])
    np.testing.assert_array_equal(decode(data), np.asarray(UP))


def test_too_many_chunks_are_refused():
    with pytest.raises(InvalidImageError, match="chunks"):
        read_png(with_chunks(PNG, chunk(b"tEXt", b"") * (MAX_PIECES + 1)))


def test_the_number_of_inflated_texts_is_bounded(monkeypatch):
    profile = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 9\n" + b"0" * (1 << 20))
    data = with_chunks(PNG, *[chunk(b"zTXt", profile)] * 4000)
    inflated = []
    inflate = zlib.decompressobj

    def counted():
        inflated.append(1)
        return inflate()

    monkeypatch.setattr("triton_python_backend.formats.png.zlib.decompressobj", counted)
    assert read_png(data).orientation == 1
    assert len(inflated) == 32


def test_interlacing_costs_more():
    head = bytearray(PNG)
    head[28] = 1
    assert read_png(bytes(head)).cost > 1.5 * read_png(PNG).cost


def test_damaged_files_raise_no_other_error():
    chance = random.Random(5)
    for _ in range(200):
        damaged = bytearray(PNG)
        damaged[chance.randrange(8, 60)] = chance.randrange(256)
        try:
            header = read_png(bytes(damaged))
            if header.width * header.height < 1e6:
                assert decode(bytes(damaged)).shape[:2] == (header.height, header.width)
        except InvalidImageError:
            continue
