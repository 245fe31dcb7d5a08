import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tests.support import tiny_sources
from tools.errors import WeightsError
from tools.importing.network import load_network
from tools.importing.stages import arcface
from tools.importing.stages.arcface import Normalisation


def run(graph: bytes, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(["EMBEDDING", "SPACE"], {"CROPS": crops})


def some_crops(count: int) -> np.ndarray:
    shades = np.random.default_rng(3).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    return np.broadcast_to(shades, (count, 112, 112, 3)).copy()


def expected(crops: np.ndarray, *, mean: float, std: float) -> np.ndarray:
    raw = (crops.mean(axis=(1, 2)) - mean) / std + np.arange(3)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("fixed_batch", [False, True])
def test_embeddings_are_normalised_row_by_row_in_any_batch(tmp_path, fixed_batch, opset):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx", fixed_batch=fixed_batch, opset=opset)
    prepared = arcface.prepare(load_network(path))
    assert prepared.dimension == 3
    for count in (1, 2, 5):
        crops = some_crops(count)
        embeddings, spaces = run(prepared.graph, crops)
        wanted = expected(crops, mean=127.5, std=127.5)
        np.testing.assert_allclose(embeddings, wanted, atol=1e-4)
        assert spaces.tolist() == [[prepared.identity]] * count


def test_a_given_normalisation_is_used(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx")
    prepared = arcface.prepare(load_network(path), Normalisation(10, 50))
    crops = some_crops(4)
    wanted = expected(crops, mean=10, std=50)
    np.testing.assert_allclose(run(prepared.graph, crops)[0], wanted, atol=1e-4)


def test_a_network_that_normalises_itself_gets_raw_pixels(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx", named="mxnet")
    crops = some_crops(4)
    embeddings, _ = run(arcface.prepare(load_network(path)).graph, crops)
    # its own Sub and Mul subtract 1 and multiply by 1
    np.testing.assert_allclose(embeddings, expected(crops, mean=1, std=1), atol=1e-4)


def test_the_space_depends_only_on_weights_and_normalisation(tmp_path):
    one = tiny_sources.save_embedder(tmp_path / "one.onnx")
    copy = tiny_sources.save_embedder(tmp_path / "copy.onnx")
    other = tiny_sources.save_embedder(tmp_path / "other.onnx", dimension=4)
    space = arcface.prepare(load_network(one)).identity
    assert arcface.prepare(load_network(copy)).identity == space
    assert arcface.prepare(load_network(one), arcface.USUAL).identity == space
    assert arcface.prepare(load_network(one), Normalisation(127.5, 128)).identity != space
    assert arcface.prepare(load_network(other)).identity != space


def test_old_weights_are_not_stored_beside_the_new(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx")
    graph = onnx.load_from_string(arcface.prepare(load_network(path)).graph).graph
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    assert [value.name for value in graph.input] == ["CROPS"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def change(path, name: str, values) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, np.float32), name))
    onnx.save(model, path)


def test_infinite_weights_are_refused(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx")
    change(path, "bias", [0, np.inf, 0])
    with pytest.raises(WeightsError, match="EMBEDDING holds values that are not finite"):
        arcface.prepare(load_network(path))


def test_a_network_that_ignores_its_input_is_refused(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx")
    change(path, "weights", np.zeros((3, 3, 1, 1)))
    with pytest.raises(WeightsError, match="the same embedding for different crops"):
        arcface.prepare(load_network(path))


def test_a_division_by_zero_is_refused(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="cannot divide"):
        arcface.prepare(load_network(path), Normalisation(127.5, 0))


def test_a_detector_is_refused_as_an_embedding_network(tmp_path):
    path = tiny_sources.save_detector(
        tmp_path / "det.onnx", distances=np.ones((1, 4)), offsets=np.ones((1, 10))
    )
    with pytest.raises(WeightsError, match=r"it takes \[1,3,\?,\?\] and has 9 output"):
        arcface.prepare(load_network(path))
