import numpy as np
import pytest

from gateway.registry.measures import measure_face
from gateway.types import Need
from tests.support.fake_inference import DIMENSION, GOOD, expected_face
from triton_python_backend import contract

FACE = expected_face(0, 0, Need.EMBEDDING | Need.SCORE | Need.CROPS)
MEAN = np.full(DIMENSION, DIMENSION**-0.5, np.float32)


@pytest.mark.parametrize("stage", contract.ONNX_STAGES, ids=lambda stage: stage.name)
def test_every_measure_that_a_stage_declares_is_measured(stage):
    assert [name for name, _ in measure_face(stage, FACE, MEAN)] == list(stage.watched)


def test_measures_are_the_values_of_the_face():
    assert dict(measure_face(contract.DETECTION, FACE, None)) == {
        "confidence": FACE.confidence,
        **{column: getattr(GOOD, column) for column in contract.QUALITY_COLUMNS},
    }
    (cosine,) = measure_face(contract.EMBEDDING_STAGE, FACE, MEAN)
    assert cosine == ("cosine_to_mean", pytest.approx(DIMENSION**-0.5))


def test_what_a_face_does_not_have_is_not_measured():
    bare = expected_face(0, 0, Need.NOTHING_MORE)
    assert list(measure_face(contract.SCORING, bare, None)) == []
    assert list(measure_face(contract.EMBEDDING_STAGE, FACE, None)) == []
    assert list(measure_face(contract.EMBEDDING_STAGE, FACE, MEAN[1:])) == []
