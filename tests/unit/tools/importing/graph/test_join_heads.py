import numpy as np
import onnx
import onnxruntime
import pytest

from tests.support.tiny_sources import Graph
from tools.importing.graph.join_heads import join_convolutions
from tools.importing.graph.operators import GraphBuilder
from tools.importing.network import load_network
from tools.quantization.graphs import layers

CHANNELS = 3
HEADS = {"scores": 2, "boxes": 8, "points": 20}


@pytest.fixture
def graph() -> Graph:
    return Graph()


def convolution(graph: Graph, name: str, filters: int, *, bias=True, size=3, **settings) -> str:
    rng = np.random.default_rng(len(name))
    shape = (filters, CHANNELS // settings.get("group", 1), size, size)
    inputs = ["image", graph.constant(f"{name}.w", rng.normal(size=shape).astype(np.float32))]
    if bias:
        inputs.append(graph.constant(f"{name}.b", rng.normal(size=filters).astype(np.float32)))
    return graph.op("Conv", inputs, name, **{"pads": [size // 2] * 4, **settings})


def joined(graph: Graph, folder, names, *, opset=11) -> tuple[list[str], onnx.ModelProto]:
    """Return the kinds of the operators after joining; check that answers are unchanged."""
    image = [("image", [1, CHANNELS, None, None])]
    outputs = [(name, [1, None, None, None]) for name in names]
    path = graph.save(folder / "source.onnx", image, outputs, opset=opset)
    network = load_network(path)
    join_convolutions(GraphBuilder(network))
    onnx.checker.check_model(network.model)
    feed = {"image": np.random.default_rng(0).normal(size=(1, CHANNELS, 12, 20)).astype("f4")}
    before, after = (
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(names, feed)
        for source in (path.read_bytes(), network.model.SerializeToString())
    )
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)
    return [node.op_type for node in network.model.graph.node], network.model


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("bias", [False, True])
def test_heads_of_one_map_become_one_convolution(graph, tmp_path, opset, bias):
    for name, filters in HEADS.items():
        convolution(graph, name, filters, bias=bias)
    kinds, model = joined(graph, tmp_path, list(HEADS), opset=opset)
    assert kinds == ["Conv", "Split"]
    assert layers(model) == [model.graph.node[0].name]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    assert weights[model.graph.node[0].input[1]].dims[0] == sum(HEADS.values())


@pytest.mark.parametrize(
    "other",
    [
        {"strides": [2, 2]},
        {"bias": False},
        {"size": 5},
        {"pads": [0, 0, 0, 0]},
        {"group": 3, "filters": 3},
    ],
    ids=str,
)
def test_different_convolutions_are_not_joined(graph, tmp_path, other):
    convolution(graph, "one", 3)
    convolution(graph, "another", **{"filters": 2, **other})
    assert joined(graph, tmp_path, ["one", "another"])[0] == ["Conv", "Conv"]


def test_convolutions_of_single_pixels_are_not_joined(graph, tmp_path):
    for name, filters in HEADS.items():
        convolution(graph, name, filters, size=1)
    assert joined(graph, tmp_path, list(HEADS))[0] == ["Conv"] * 3


def test_readers_of_a_joined_convolution_run_after_it(graph, tmp_path):
    first = convolution(graph, "first", 4)
    graph.op("Relu", [first], "bent")
    convolution(graph, "second", 4)
    assert joined(graph, tmp_path, ["bent", "second"])[0] == ["Conv", "Split", "Relu"]
