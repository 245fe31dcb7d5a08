import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from tests.support import photos, tiny_sources
from tests.support.serving import copy_repository, free_ports
from tests.support.swapping import write_other_network
from tools.__main__ import app
from tools.errors import WeightsError
from tools.golden import check, inputs
from tools.golden.answers import EXPECTED, answer, expected, record
from tools.golden.check import check_golden, cosine
from tools.importing.network import load_network
from tools.importing.stages import arcface, scrfd

STAGE = "face_embedding"


@pytest.fixture(scope="module")
def embedder() -> Path:
    return photos.models_folder() / "mobilefacenet_arcface_128.onnx"


@pytest.fixture(scope="module")
def graph(embedder) -> bytes:
    return arcface.prepare(load_network(embedder)).graph


def test_the_inputs_are_always_the_same_and_all_different():
    crops = inputs.crops()
    assert crops.shape == (inputs.VIEWS + inputs.DRAWN, 112, 112, 3)
    assert crops.dtype == np.uint8
    inputs.crops.cache_clear()
    np.testing.assert_array_equal(inputs.crops(), crops)
    flat = crops.reshape(len(crops), -1).astype(int)
    for row in range(len(flat)):
        others = np.delete(flat, row, axis=0)
        assert np.abs(others - flat[row]).mean(axis=1).min() > 0.5


def test_known_weights_answer_as_they_did(embedder, graph):
    assert check_golden(STAGE, graph, embedder).id in json.loads(EXPECTED.read_text())[STAGE]
    for name in ("det_500m", "scrfd_2.5g_bnkps"):
        path = photos.models_folder() / f"{name}.onnx"
        prepared = scrfd.prepare(load_network(path))
        found = check_golden("face_detection", prepared.graph, path)
        assert expected("face_detection", found.id) is not None


def test_known_weights_that_answer_otherwise_are_refused(embedder, graph):
    spoilt = onnx.load_from_string(graph)
    for tensor in spoilt.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.ndim == 4 and array.shape[2:] == (3, 3):
            array = np.roll(array, 1, axis=3)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
            break
    with pytest.raises(WeightsError, match=r"cosine of .* 0\.999 was expected"):
        check_golden(STAGE, spoilt.SerializeToString(), embedder)


def test_an_unknown_embedder_must_tell_faces_apart(embedder, tmp_path):
    other = write_other_network(embedder, tmp_path / "other.onnx", dimension=512)
    check_golden(STAGE, arcface.prepare(load_network(other)).graph, other)
    # a network to which drawings are more like the portrait than its own copies
    answers = np.zeros((16, 3), np.float32)
    answers[:, 0] = 1
    answers[list(inputs.near_views()), 1] = 1
    with pytest.raises(WeightsError, match="takes a drawing"):
        check._must_tell_faces_apart(answers / np.linalg.norm(answers, axis=1)[:, None], other)


def test_a_detector_that_sees_the_face_elsewhere_is_refused(tmp_path):
    path = tiny_sources.save_detector(
        tmp_path / "det.onnx",
        distances=np.ones((1, 4), np.float32),
        offsets=np.ones((1, 10), np.float32),
    )
    prepared = scrfd.prepare(load_network(path))
    with pytest.raises(WeightsError, match="the golden portrait"):
        check_golden("face_detection", prepared.graph, path)


def test_answers_are_kept_as_they_were(embedder, graph, tmp_path):
    found = answer(STAGE, graph, embedder, space=None, width=None)
    record(STAGE, found, source="x", path=tmp_path / "expected.json")
    kept = expected(STAGE, found.id, path=tmp_path / "expected.json")
    assert cosine(found.values, kept / np.linalg.norm(kept, axis=1, keepdims=True)) > 0.99999
    assert expected(STAGE, "0" * 16, path=tmp_path / "expected.json") is None


@pytest.fixture
def command(monkeypatch, tmp_path):
    monkeypatch.setenv("AURUM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AURUM_TRITON_HTTP_PORT", str(free_ports(1)[0]))
    monkeypatch.setenv("AURUM_MODEL_REPOSITORY", str(copy_repository(tmp_path / "repository")))

    def run(*arguments: object):
        return CliRunner().invoke(app, ["models", *map(str, arguments)])

    return run


def test_a_re_export_takes_the_space_over_and_another_network_does_not(command, embedder, tmp_path):
    assert command("import", "--embedding", embedder).exit_code == 0
    re_export = tmp_path / "fp16.onnx"
    model = onnx.load(embedder)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            rounded = array.astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    onnx.save(model, re_export)
    done = command("import", "--embedding", re_export, "--same-space-as", 1)
    assert done.exit_code == 0, done.output
    cards = [
        json.loads((tmp_path / "repository" / STAGE / number / "model.json").read_text())
        for number in "12"
    ]
    assert cards[0]["id"] == cards[1]["id"]
    assert cards[0]["sha256"] != cards[1]["sha256"]
    other = write_other_network(embedder, tmp_path / "other.onnx")
    refused = command("import", "--embedding", other, "--same-space-as", 1)
    assert refused.exit_code == 1
    assert "is no re-export of version 1" in refused.stderr
    assert (
        "no version 9 whose space"
        in command("import", "--embedding", other, "--same-space-as", 9).stderr
    )


def test_activate_runs_the_golden_set(command, embedder, tmp_path, monkeypatch):
    for _ in range(2):
        assert command("import", "--embedding", embedder).exit_code == 0
    assert command("rollback", "embedding").exit_code == 0
    assert command("activate", "embedding").exit_code == 0
    assert command("rollback", "embedding").exit_code == 0

    def other(stage: str, identity: str) -> np.ndarray:
        return np.ones((16, 128), np.float32)

    monkeypatch.setitem(check.check_golden.__kwdefaults__, "known", other)
    refused = command("activate", "embedding")
    assert refused.exit_code == 1
    assert "0.999 was expected" in refused.stderr
