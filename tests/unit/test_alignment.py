import numpy as np

from triton_python_backend.alignment import align
from triton_python_backend.geometry import ARCFACE_TEMPLATE


def test_a_face_already_in_place_is_not_changed():
    pixels = np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(pixels, ARCFACE_TEMPLATE[None])[0], pixels)


def test_shifted_faces_are_shifted_back_each_with_its_own():
    pixels = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    shifts = np.array([[[20, 30]], [[100, 5]]], dtype=np.float32)
    crops = align(pixels, ARCFACE_TEMPLATE + shifts)
    np.testing.assert_array_equal(crops[0], pixels[30:142, 20:132])
    np.testing.assert_array_equal(crops[1], pixels[5:117, 100:212])


def test_no_face_gives_no_crop():
    crops = align(np.zeros((5, 5, 3), np.uint8), np.zeros((0, 5, 2), np.float32))
    assert crops.shape == (0, 112, 112, 3)
    assert crops.dtype == np.uint8
