import io

import cv2
import numpy as np
import pytest
from PIL import Image

from triton_python_backend.decoding import decode, decode_reduced
from triton_python_backend.formats.header import InvalidImageError


def photo(width: int = 64, height: int = 48) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2, 0] = 255
    pixels[: height // 2, width // 2 :, 1] = 255
    pixels[height // 2 :, : width // 2, 2] = 255
    pixels[height // 2 :, width // 2 :] = 255
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def corners(pixels: np.ndarray) -> list[str]:
    """Return the colour name of each quarter, row by row."""
    height, width = pixels.shape[:2]
    names = {(True, False, False): "r", (False, True, False): "g", (False, False, True): "b"}
    spots = [(1, 1), (1, 3), (3, 1), (3, 3)]
    values = [pixels[height * y // 4, width * x // 4] > 128 for y, x in spots]
    return [names.get(tuple(value.tolist()), "w") for value in values]


UPRIGHT = ["r", "g", "b", "w"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
def test_formats_decode_to_rgb(form):
    pixels = decode(encoded(photo(), form))
    assert pixels.shape == (48, 64, 3)
    assert pixels.dtype == np.uint8
    assert corners(pixels) == UPRIGHT


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "I;16"])
def test_png_modes(mode):
    image = photo()
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 257)
    else:
        image = image.convert(mode)
    pixels = decode(encoded(image, "PNG"))
    assert pixels.shape == (48, 64, 3)
    assert pixels[40, 60].tolist() == [255, 255, 255]


def test_cmyk_and_grey_jpeg():
    assert corners(decode(encoded(photo().convert("CMYK"), "JPEG", quality=95))) == UPRIGHT
    grey = decode(encoded(photo().convert("L"), "JPEG"))
    assert np.array_equal(grey[..., 0], grey[..., 2])


ORIENTATIONS = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


"""Transformation from the upright picture to the stored pixels, by orientation."""


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_applied(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = ORIENTATIONS[orientation](photo())
    pixels = decode(encoded(stored, form, exif=exif))
    assert pixels.shape == (48, 64, 3)
    assert corners(pixels) == UPRIGHT


@pytest.mark.parametrize("form", ["WEBP", "PNG"])
def test_first_frame_of_an_animation(form):
    second = Image.new("RGB", (64, 48), "black")
    data = encoded(photo(), form, save_all=True, append_images=[second], lossless=True)
    assert corners(decode(data)) == UPRIGHT


def test_first_page_of_a_multi_picture_jpeg():
    data = encoded(photo(), "MPO", save_all=True, append_images=[photo(20, 20)])
    assert decode(data).shape == (48, 64, 3)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff", b"hello", b"\x89PNG\r\n\x1a\nnot really", bytes(1000)],
    ids=["empty", "jpeg-start", "text", "png-start", "zeros"],
)
def test_other_data_are_refused(data):
    with pytest.raises(InvalidImageError):
        decode(data)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_truncated_images_are_refused(form, share):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    with pytest.raises(InvalidImageError):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize(("width", "reduction"), [(2559, 1), (2560, 2), (5120, 4), (10240, 8)])
def test_a_large_jpeg_is_decoded_at_a_reduced_size(width, reduction):
    picture = decode_reduced(encoded(photo(width, 300), "JPEG"))
    assert (picture.width, picture.height, picture.reduction) == (width, 300, reduction)
    assert picture.pixels.shape == (-(-300 // reduction), -(-width // reduction), 3)
    assert corners(picture.pixels) == UPRIGHT


def test_a_large_jpeg_can_be_decoded_in_full():
    data = encoded(photo(4000, 3000), "JPEG")
    picture = decode_reduced(data, reduction=1)
    assert np.array_equal(picture.pixels, decode(data))


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_other_formats_are_decoded_in_full(form):
    picture = decode_reduced(encoded(photo(2000, 100), form))
    assert picture.reduction == 1
    assert picture.pixels.shape == (100, 2000, 3)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_reduced_pictures_are_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = ORIENTATIONS[orientation](photo(2601, 1561))
    picture = decode_reduced(encoded(stored, "JPEG", exif=exif))
    assert (picture.width, picture.height, picture.reduction) == (2601, 1561, 2)
    assert picture.pixels.shape == (781, 1301, 3)
    assert corners(picture.pixels) == UPRIGHT


def test_reduced_pixels_have_the_places_of_the_image():
    image = np.zeros((1400, 2800, 3), np.uint8)
    image[600:1000, 1000:1800] = 255
    picture = decode_reduced(encoded(Image.fromarray(image), "JPEG", quality=95))
    y, x = np.nonzero(picture.pixels[..., 0] > 127)
    middle = np.array([[x.mean(), y.mean()]], np.float32)
    assert picture.reduction == 2
    np.testing.assert_allclose(picture.letterbox.to_image(middle), [[1399.5, 799.5]], atol=0.2)


def test_a_truncated_large_jpeg_is_refused():
    data = encoded(photo(4000, 3000), "JPEG")
    with pytest.raises(InvalidImageError):
        decode_reduced(data[: len(data) // 2])


def test_decoder_is_opencv_with_libjpeg_turbo():
    assert "libjpeg-turbo" in cv2.getBuildInformation()
