"""The engine in this process: when it is loaded, and what it refuses to load."""

import json
import shutil
import subprocess
import sys

import pytest

from gateway.errors import ConfigurationError, InferenceUnavailableError
from gateway.inference.local import LocalEnsemble
from gateway.settings import CHECKOUT
from gateway.types import Need
from tests.support import photos
from triton_python_backend import contract
from triton_python_backend.decoders.pool import DecodersAwayError
from triton_python_backend.decoding import decode_with

_HEAVY = {"cv2", "onnxruntime", "gateway.inference.local"}


def loaded_by(module: str) -> set[str]:
    code = f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout)) & _HEAVY


def test_the_gateway_loads_neither_the_engine_nor_what_it_runs_on():
    assert loaded_by("gateway.__main__") == set()
    assert loaded_by("gateway.inference.local") == _HEAVY


@pytest.fixture(scope="module")
def shipped():
    return LocalEnsemble(CHECKOUT / "model_repository")


def test_only_the_networks_that_are_needed_run(shipped, monkeypatch):
    ran = []
    run = LocalEnsemble._run
    monkeypatch.setattr(
        LocalEnsemble,
        "_run",
        lambda self, stage, given: ran.append(stage) or run(self, stage, given),
    )
    shipped.analyse(photos.PORTRAIT.read_bytes(), Need.CROPS)
    assert set(ran) == {contract.DETECTION}
    shipped.analyse(photos.PORTRAIT.read_bytes(), Need.EMBEDDING)
    assert set(ran) == {contract.DETECTION, contract.EMBEDDING_STAGE}


def test_images_are_decoded_where_it_is_said():
    asked = []

    def decode(header, data, *, reduction=None):
        asked.append(header.format)
        if len(asked) > 1:
            raise DecodersAwayError("no room")
        return decode_with(header, data, reduction=reduction)

    engine = LocalEnsemble(CHECKOUT / "model_repository", decode=decode)
    assert len(engine.analyse(photos.PORTRAIT.read_bytes(), Need.CROPS).faces) == 1
    with pytest.raises(InferenceUnavailableError, match="no room"):
        engine.analyse(photos.PORTRAIT.read_bytes(), Need.CROPS)
    assert asked == ["PNG", "PNG"]


def test_the_ids_are_those_that_the_graphs_answer(shipped):
    analysis = shipped.analyse(photos.blank())
    assert shipped.ids == {stage: weights.id for stage, weights in analysis.weights.items()}


def test_a_stage_without_a_version_that_loads_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="face_detection has no version"):
        LocalEnsemble(tmp_path)
    stage = tmp_path / contract.DETECTION.name
    shutil.copytree(CHECKOUT / "model_repository" / stage.name, stage)
    (stage / "2").mkdir()
    (stage / "2" / "model.onnx").write_bytes(b"no network")
    with pytest.raises(ConfigurationError, match="face_detection/2 does not load"):
        LocalEnsemble(tmp_path)
