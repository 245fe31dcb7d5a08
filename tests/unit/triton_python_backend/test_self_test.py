import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support import tiny_sources
from tests.support.tiny_weights import write_tiny_weights
from tools.importing.importer import Order, import_weights
from tools.registry.version_check import config_of
from triton_python_backend.contract import ONNX_STAGES
from triton_python_backend.onnx_session import OnnxSession
from triton_python_backend.self_test import SelfTestError, portrait, self_test

STAGES = {stage.name: stage for stage in ONNX_STAGES}


@pytest.fixture
def repository(tmp_path):
    for stage in ONNX_STAGES:
        (tmp_path / stage.name).mkdir()
        (tmp_path / stage.name / "config.pbtxt").write_text("")
    return tmp_path


def run(repository, stage: str, version: int = 1) -> None:
    path = repository / stage / str(version) / "model.onnx"
    self_test(stage, OnnxSession(config_of(STAGES[stage]), path))


def spoil(path, value: float) -> None:
    """Overwrite the bias or the weights of the first layer."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in ("bias", "weights"):
            array = np.full_like(numpy_helper.to_array(tensor), value)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)


def test_imported_networks_pass(repository):
    network = tiny_sources.save_embedder(repository / "net.onnx")
    head = tiny_sources.save_head(repository / "head.onnx", [1.0, 2.0, 3.0])
    import_weights(Order(embedding=network, scoring=head), repository)
    run(repository, "face_embedding")
    run(repository, "face_scoring")


@pytest.mark.parametrize("stage", ["face_embedding", "face_scoring"])
def test_nan_is_refused(repository, stage):
    network = tiny_sources.save_embedder(repository / "net.onnx")
    head = tiny_sources.save_head(repository / "head.onnx", [1.0, 2.0, 3.0])
    import_weights(Order(embedding=network, scoring=head), repository)
    spoil(repository / stage / "1" / "model.onnx", np.nan)
    with pytest.raises(SelfTestError, match="not finite"):
        run(repository, stage)


def test_a_blind_detector_is_refused(repository):
    # anchors that respond only to brightness beyond white
    source = tiny_sources.save_detector(
        repository / "det.onnx",
        distances=np.ones((1, 4), np.float32),
        offsets=np.ones((1, 10), np.float32),
    )
    import_weights(Order(detection=source), repository)
    path = repository / "face_detection" / "1" / "model.onnx"
    run(repository, "face_detection")
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".bias") and tensor.name.startswith("s"):
            array = np.full_like(numpy_helper.to_array(tensor), -100)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    with pytest.raises(SelfTestError, match="no face in the portrait"):
        run(repository, "face_detection")


def test_a_network_that_fails_on_real_shapes_is_refused(repository):
    write_tiny_weights(repository)
    path = repository / "face_embedding" / "1" / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "EMBEDDING_dims":
            tensor.CopyFrom(numpy_helper.from_array(np.array([3], np.int64), tensor.name))
    onnx.save(model, path)
    with pytest.raises(SelfTestError, match="fails when it runs"):
        run(repository, "face_embedding")


def test_networks_without_our_metadata_only_have_to_answer(repository):
    write_tiny_weights(repository)
    for stage in STAGES:
        run(repository, stage)


def test_other_stages_pass():
    self_test("face_alignment", None)


def test_the_portrait_fits_the_closeup_canvas():
    assert portrait().shape == (320, 320, 3)
    assert portrait().dtype == np.uint8


def test_a_stage_without_a_test_of_its_own_runs_on_what_it_declares(repository, monkeypatch):
    monkeypatch.setattr("triton_python_backend.self_test._TESTS", {})
    network = tiny_sources.save_embedder(repository / "net.onnx")
    head = tiny_sources.save_head(repository / "head.onnx", [1.0, 2.0, 3.0])
    import_weights(Order(embedding=network, scoring=head), repository)
    run(repository, "face_embedding")
    # noise comes from no space, in which a head answers NaN
    run(repository, "face_scoring")
    spoil(repository / "face_embedding" / "1" / "model.onnx", np.nan)
    with pytest.raises(SelfTestError, match="not finite"):
        run(repository, "face_embedding")
