"""Photos of any size through our stages, against insightface as its users call it.

Boxes within 1 pixel, embeddings at a cosine of at least 0.999: also where the photo's edges come to
no whole pixels of the canvas.
"""

import cv2
import numpy as np
import pytest

from tests.support import golden
from triton_python_backend import contract, stages
from triton_python_backend.decoding import decode, decode_reduced

pytestmark = pytest.mark.golden

PIXEL = 1.0
COSINE = 0.999
PIXEL_REDUCED, COSINE_REDUCED = 1.25, 0.998
"""Of the worst of six faces in a photo of 12 megapixels, decoded at half its size."""


@pytest.fixture(scope="module")
def large():
    return golden.require(golden.large_photo)


@pytest.fixture(scope="module")
def pictures(large):
    return golden.require(golden.cuts_of_any_size) | {"photo-large": decode(large)}


@pytest.fixture(scope="module")
def wanted(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("insightface")
    return golden.require(lambda: golden.ask_insightface(pictures, folder))


def see(data: bytes, detector, embedder) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What stages 1 to 4 make of an encoded photo: stage 3's answer, and the embeddings."""
    image = np.array([data], dtype=np.object_)
    made = dict(stages.preprocess_image({contract.IMAGE: image}))
    (found,) = detector(made.pop(contract.FRAME))
    aligned = stages.align_faces(
        {
            contract.IMAGE: image,
            contract.FRAME_BOXES: found.boxes[None],
            contract.FRAME_LANDMARKS: found.landmarks[None],
            contract.FRAME_CONFIDENCE: found.confidence[None],
            contract.FRAME_DETECTOR: np.array([[1]]),
            **made,
        },
        ask=lambda canvases, detector: None,
    )
    crops = {contract.CROPS: aligned[contract.CROPS]}
    return dict(aligned), embedder.run([contract.EMBEDDING], crops)[0]


def differences(aligned, embeddings, reference, pixels) -> tuple[float, float]:
    """The worst box in pixels, and the worst cosine."""
    height, width = pixels.shape[:2]
    # insightface does not clip, and cuts leave faces at the edge
    boxes = np.clip(reference.boxes, 0, [width, height, width, height])
    apart = np.abs(aligned[contract.BOXES][:, None] - boxes[None]).max(axis=2)
    rows = apart.argmin(axis=1)
    assert sorted(rows) == list(range(len(reference.boxes)))
    theirs = reference.embeddings[rows]
    cosines = (embeddings * theirs).sum(axis=1) / np.linalg.norm(theirs, axis=1)
    return float(apart.min(axis=1).max()), float(cosines.min())


def test_every_face_of_a_photo_is_as_insightface_has_it(
    pictures, wanted, detector, detector_name, embedder
):
    for name, pixels in pictures.items():
        data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
        aligned, embeddings = see(data, detector, embedder)
        pixel, cosine = differences(aligned, embeddings, wanted[detector_name, name], pixels)
        assert pixel <= PIXEL, name
        assert cosine >= COSINE, name


def test_a_photo_decoded_at_half_its_size_is_nearly_as_insightface_has_it(
    pictures, large, wanted, detector, detector_name, embedder
):
    assert decode_reduced(large).reduction == 2
    aligned, embeddings = see(large, detector, embedder)
    reference, pixels = wanted[detector_name, "photo-large"], pictures["photo-large"]
    pixel, cosine = differences(aligned, embeddings, reference, pixels)
    assert len(reference.boxes) == 6
    assert pixel <= PIXEL_REDUCED
    assert cosine >= COSINE_REDUCED
