import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from tests.support import tiny_sources
from tools.importing.graph import fp16_storage
from tools.importing.network import load_network
from tools.importing.stages import head

LENGTH = 2 * fp16_storage.LEAST


def source(folder, weights: np.ndarray) -> onnx.ModelProto:
    return onnx.load(tiny_sources.save_head(folder / "head.onnx", weights))


def random_weights(*, exact: bool) -> np.ndarray:
    weights = np.random.default_rng(1).normal(size=LENGTH).astype(np.float32)
    return weights.astype(np.float16).astype(np.float32) if exact else weights


def scores(graph: bytes) -> np.ndarray:
    rows = np.random.default_rng(2).normal(size=(3, LENGTH)).astype(np.float32)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"embedding": rows})[0]


def test_weights_that_fit_16_bits_take_half_the_bytes_and_answer_the_same(tmp_path):
    model = source(tmp_path, random_weights(exact=True))
    before = model.SerializeToString()
    fp16_storage.pack(model)
    onnx.checker.check_model(model)
    after = model.SerializeToString()
    assert len(after) < 0.6 * len(before)
    np.testing.assert_array_equal(scores(after), scores(before))
    fp16_storage.unpack(model)
    assert model.SerializeToString() == before


def test_weights_that_do_not_fit_16_bits_are_kept(tmp_path):
    model = source(tmp_path, random_weights(exact=False))
    before = model.SerializeToString()
    fp16_storage.pack(model)
    assert model.SerializeToString() == before
    fp16_storage.round_to_fp16(model)
    fp16_storage.pack(model)
    after = model.SerializeToString()
    assert len(after) < 0.6 * len(before)
    np.testing.assert_allclose(scores(after), scores(before), rtol=1e-2, atol=0.1)


def test_the_error_names_a_weight_too_large_for_16_bits(tmp_path):
    weights = random_weights(exact=True)
    weights[5] = 1e6
    with pytest.raises(ValueError, match="weights is too large"):
        fp16_storage.round_to_fp16(source(tmp_path, weights))


def test_a_cast_of_the_network_itself_is_kept(tmp_path):
    graph = tiny_sources.Graph()
    graph.constant("three", np.array([3], np.float16))
    graph.op("Cast", ["three"], "shift", to=TensorProto.FLOAT)
    graph.op("Cast", ["three"], "wide", to=TensorProto.DOUBLE)  # and read a second time
    graph.op("Cast", ["x"], "whole", to=TensorProto.INT32)
    graph.op("Cast", ["whole"], "rounded", to=TensorProto.FLOAT)
    graph.op("Add", ["rounded", "shift"], "y")
    path = graph.save(tmp_path / "net.onnx", [("x", [1])], [("y", [1])])
    model = onnx.load(path)
    before = model.SerializeToString()
    fp16_storage.unpack(model)
    assert model.SerializeToString() == before


def test_importing_sees_32_bits_and_writes_16_again(tmp_path):
    model = source(tmp_path, random_weights(exact=True))
    fp16_storage.pack(model)
    packed = tmp_path / "packed.onnx"
    onnx.save(model, packed)
    network = load_network(packed)
    assert [t.data_type for t in network.model.graph.initializer] == [TensorProto.FLOAT]
    prepared = head.prepare(network, space=7, dimension=None)
    kinds = {t.data_type for t in onnx.load_from_string(prepared.graph).graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    assert len(prepared.graph) < 3 * LENGTH
