"""Alignment against insightface's `norm_crop`: within 1 grey level on average, crop by crop."""

import numpy as np
import pytest

from triton_python_backend.alignment import align

pytestmark = pytest.mark.golden

GREY_LEVEL = 1.0


def test_crops_are_those_of_norm_crop(canvases, reference):
    compared = 0
    for (_, key), faces in reference.items():
        if faces.crops is None:
            continue
        crops = align(canvases[key], faces.landmarks)
        difference = np.abs(crops.astype(np.int16) - faces.crops).mean(axis=(1, 2, 3))
        assert difference.max() <= GREY_LEVEL
        compared += len(crops)
    assert compared >= 30


def test_another_face_is_farther_than_the_tolerance(canvases, reference):
    faces = reference["det_500m", "group-frame"]
    crops = align(canvases["group-frame"], faces.landmarks)
    difference = np.abs(crops.astype(np.int16) - np.roll(faces.crops, 1, axis=0))
    assert difference.mean(axis=(1, 2, 3)).min() > 10 * GREY_LEVEL
