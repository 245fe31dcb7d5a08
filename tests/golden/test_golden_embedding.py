"""The imported ArcFace graph against insightface's ArcFaceONNX: cosine of at least 0.999."""

import numpy as np
import pytest

from tests.support.golden import DETECTORS
from triton_python_backend.alignment import align

pytestmark = pytest.mark.golden

COSINE = 0.999


def cosines(embeddings: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return (embeddings * wanted).sum(axis=1) / np.linalg.norm(wanted, axis=1)


def test_embeddings_point_where_insightface_says(reference, embedder):
    compared = 0
    for faces in reference.values():
        if faces.crops is None:
            continue
        embeddings = embedder.run(["EMBEDDING"], {"CROPS": faces.crops})[0]
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
        assert cosines(embeddings, faces.embeddings).min() >= COSINE
        compared += len(embeddings)
    assert compared >= 30


def test_a_crop_gives_the_same_alone_and_in_a_batch(reference, embedder):
    crops = reference["det_500m", "group-frame"].crops
    together = embedder.run(["EMBEDDING"], {"CROPS": crops})[0]
    for crop, embedding in zip(crops, together, strict=True):
        alone = embedder.run(["EMBEDDING"], {"CROPS": crop[None]})[0][0]
        np.testing.assert_allclose(alone, embedding, atol=1e-4)


def test_different_people_stay_far_below_the_tolerance(reference, embedder):
    crops = reference["det_500m", "group-frame"].crops
    embeddings = embedder.run(["EMBEDDING"], {"CROPS": crops})[0]
    assert cosines(embeddings, np.roll(embeddings, 1, axis=0)).max() < 0.5


def test_detection_alignment_and_embedding_together(
    canvases, reference, detector, detector_name, embedder
):
    assert detector_name in DETECTORS
    for key, canvas in canvases.items():
        wanted = reference[detector_name, key]
        (found,) = detector(canvas[None])
        if wanted.embeddings is None:
            assert len(found.boxes) == 0
            continue
        crops = align(canvas, found.landmarks)
        embeddings = embedder.run(["EMBEDDING"], {"CROPS": crops})[0]
        for embedding, box in zip(embeddings, found.boxes, strict=True):
            row = np.abs(wanted.boxes - box).max(axis=1).argmin()
            assert cosines(embedding[None], wanted.embeddings[row][None])[0] >= COSINE
