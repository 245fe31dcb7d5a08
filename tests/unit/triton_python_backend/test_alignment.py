import cv2
import numpy as np

from triton_python_backend.alignment import align, align_in, coarsest
from triton_python_backend.decoding import Picture
from triton_python_backend.geometry import ARCFACE_TEMPLATE


def unreachable(reduction: int) -> Picture:
    raise AssertionError(reduction)


def reduced(image: np.ndarray, reduction: int) -> Picture:
    height, width = image.shape[:2]
    size = (width // reduction, height // reduction)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return Picture(small, width, height, reduction)


def smooth_image() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)
    return cv2.resize(noise, (1200, 1200), interpolation=cv2.INTER_CUBIC)


def test_large_faces_are_cropped_from_the_reduced_picture():
    image = smooth_image()
    landmarks = (ARCFACE_TEMPLATE * 8 + [100, 150])[None].astype(np.float32)
    full = align(image, landmarks)[0].astype(int)
    quarter = align_in(reduced(image, 4), landmarks, finer=unreachable)[0]
    assert np.abs(quarter - full).mean() < 1


def test_small_faces_are_decoded_at_the_scale_that_they_need():
    image = smooth_image()
    large, small = ARCFACE_TEMPLATE * 8, ARCFACE_TEMPLATE * 2.5 + [20, 30]
    landmarks = np.stack([large, small]).astype(np.float32)
    asked = []

    def finer(reduction: int) -> Picture:
        asked.append(reduction)
        return reduced(image, reduction)

    crops = align_in(reduced(image, 4), landmarks, finer=finer).astype(int)
    assert asked == [2]
    assert np.abs(crops - align(image, landmarks)).mean() < 1


def test_the_coarsest_reduction_has_one_pixel_per_pixel_of_the_crop():
    for times, reduction in ((0.5, 1), (1.9, 1), (2.1, 2), (4.5, 4), (30, 8)):
        matrix = np.array([[1 / times, 0, 3], [0, 1 / times, 4]], np.float32)
        assert coarsest(matrix) == reduction


def test_an_aligned_face_is_unchanged():
    pixels = np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(pixels, ARCFACE_TEMPLATE[None])[0], pixels)


def test_each_shifted_face_is_shifted_back():
    pixels = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    shifts = np.array([[[20, 30]], [[100, 5]]], dtype=np.float32)
    crops = align(pixels, ARCFACE_TEMPLATE + shifts)
    np.testing.assert_array_equal(crops[0], pixels[30:142, 20:132])
    np.testing.assert_array_equal(crops[1], pixels[5:117, 100:212])


def test_no_face_gives_no_crop():
    crops = align(np.zeros((5, 5, 3), np.uint8), np.zeros((0, 5, 2), np.float32))
    assert crops.shape == (0, 112, 112, 3)
    assert crops.dtype == np.uint8
