"""The models that KServe clients see."""

import pytest

from gateway.errors import NotFoundError
from gateway.kserve.public_models import find_model, public_models
from triton_python_backend import contract


def test_the_public_models_are_the_ensembles_and_the_networks():
    names = [model.name for model in public_models(scored=True)]
    networks = [stage.name for stage in contract.ONNX_STAGES]
    assert names == ["face_pipeline", "face_pipeline_unscored", *networks]
    for name in ("face_preprocess", "face_pipeline_candidate", "stats", ""):
        with pytest.raises(NotFoundError):
            find_model(name, scored=True)
