"""Networks in 8 and 16 bits: small ones, whose answers are known, and the built-in ones."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.settings import CHECKOUT
from tests.support.onnx_files import HALVES, large_weights
from tools.errors import WeightsError
from tools.golden import inputs
from tools.importing.dry_run import Trial
from tools.importing.graph import fp16_storage
from tools.importing.network import MAX_IR_VERSION, load_network
from tools.importing.stages.arcface import prepare
from tools.quantization import quantize, samples
from tools.quantization.accuracy import (
    DetectionAccuracy,
    EmbeddingAccuracy,
    compare_detections,
    compare_embeddings,
    embed,
)
from tools.quantization.fp16 import halve
from tools.quantization.graphs import first_and_last, layers, load, properties, seal, surgery
from tools.quantization.int8 import Quantiser
from tools.quantization.quantize import Quantizer
from tools.registry.prepared import Prepared
from triton_python_backend import contract

BUILT_IN = CHECKOUT / "model_repository"
DETECTOR = (BUILT_IN / "face_detection" / "1" / "model.onnx").read_bytes()
WIDTHS = (3, 8, 12, 12, 16)


def save_layers(path: Path, *, spread: float = 1.0) -> Path:
    """Save an ArcFace-like network of four convolutions.

    `spread` above 1 gives the third one a channel that is so much larger than the others.
    """
    generator = np.random.default_rng(3)
    nodes, tensors, last = [], [], "data"
    for index in range(4):
        inside, outside = WIDTHS[index], WIDTHS[index + 1]
        weights = generator.normal(0, (2 / (9 * inside)) ** 0.5, (outside, inside, 3, 3))
        if index == 2:
            weights[0] *= spread
        tensors.append(numpy_helper.from_array(weights.astype(np.float32), f"w{index}"))
        settings = {"pads": [1, 1, 1, 1], "strides": [2, 2]}
        conv = helper.make_node("Conv", [last, f"w{index}"], [f"c{index}"], f"c{index}", **settings)
        relu = helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"r{index}")
        nodes += [conv, relu]
        last = f"r{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"], "pooled"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["embedding"], "flat"))
    graph = helper.make_graph(
        nodes,
        "source",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", WIDTHS[-1]])],
        tensors,
    )
    opset = [helper.make_opsetid("", 11)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=6), path)
    return path


def test_what_is_made_lighter_has_32_bits(tmp_path):
    path = save_layers(tmp_path / "net.onnx")
    model = onnx.load(path)
    fp16_storage.round_to_halves(model)
    onnx.save(model, path)
    kept = prepare(load_network(path)).graph
    (tmp_path / "kept.onnx").write_bytes(kept)
    assert large_weights(tmp_path / "kept.onnx") == HALVES
    onnx.save(load(kept, opset=13), tmp_path / "loaded.onnx")
    assert large_weights(tmp_path / "loaded.onnx") == {TensorProto.FLOAT}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Prepared:
    path = save_layers(tmp_path_factory.mktemp("small") / "net.onnx")
    return prepare(load_network(path))


def quantizer(precision, **settings) -> Quantizer:
    return Quantizer(precision, None, lambda: (DETECTOR, Path("built-in")), **settings)


def kinds(graph: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(graph).graph.node]


def test_first_and_last_layers_are_found_in_a_network_with_heads():
    model = load(DETECTOR, opset=13)
    found = first_and_last(model)
    # the stem; and scores, boxes and landmarks of three strides
    assert len(found) == 10
    assert found[0] == layers(model)[0]
    assert set(found) < set(layers(model))
    assert not set(surgery(model)) & set(layers(model))


def test_a_resize_by_sizes_loses_its_empty_scales():
    resize = helper.make_node("Resize", ["x", "empty", "empty", "sizes"], ["y"], mode="nearest")
    tensors = [
        numpy_helper.from_array(np.zeros(0, np.float32), "empty"),
        numpy_helper.from_array(np.array([1, 1, 4, 4]), "sizes"),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, None, None]) for n in "xy"]
    graph = helper.make_graph([resize], "resize", ends[:1], ends[1:], tensors)
    opset = [helper.make_opsetid("", 11)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=6)
    # a converter would take them for scales that are given
    loaded = load(model.SerializeToString(), opset=13)
    assert list(loaded.graph.node[0].input) == ["x", "", "", "sizes"]


def test_int8_takes_the_layers_between(small):
    found = quantizer("int8")(small)
    model = onnx.load_from_string(found.graph)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    quantised = [node for node in convs if producers.get(node.input[1]) == "DequantizeLinear"]
    assert (len(convs), len(quantised)) == (4, 2)
    assert found.lighter.layers - found.lighter.in_float == 2
    # a scale for each channel of the weights
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    by_output = {name: node for node in model.graph.node for name in node.output}
    sizes = {scales[by_output[node.input[1]].input[1]].size for node in quantised}
    assert sizes == {12}


def test_a_lighter_graph_loads_where_the_float_one_does(small):
    for precision in ("int8", "fp16"):
        graph = quantizer(precision)(small).graph
        model = onnx.load_from_string(graph)
        assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}
        assert model.ir_version <= MAX_IR_VERSION
        assert properties(model)["aurum.precision"] == precision
        assert properties(model)["aurum.stage"] == "face_embedding"
        tensors = contract.EMBEDDING_STAGE
        assert [v.name for v in model.graph.input] == [t.name for t in tensors.inputs]
        assert [v.name for v in model.graph.output] == [t.name for t in tensors.outputs]
        types = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
        assert types == [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT64]


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_lighter_embedding_has_a_space_of_its_own(small, precision):
    found = quantizer(precision)(small)
    assert found.identity != small.identity
    assert found.lighter.made_from == contract.format_id(small.identity)
    answer = Trial(found.graph, found.source).run({contract.CROPS: inputs.crops()}, ["SPACE"])
    assert (answer["SPACE"] == found.identity).all()
    assert found.lighter.accuracy["cosine_mean"] >= quantize.MIN_COSINE


def test_the_space_is_kept_only_if_told_and_near(small, monkeypatch):
    assert quantizer("fp16", keep_space=True)(small).identity == small.identity
    monkeypatch.setattr(quantize, "SAME_COSINE", 1.1)
    with pytest.raises(WeightsError, match=r"mean cosine of \d\.\d{4} .*1\.1 was expected"):
        quantizer("int8", keep_space=True)(small)


def test_fp16_halves_the_network_and_leaves_what_is_around_it():
    built_in = DETECTOR
    model = load(built_in, opset=13)
    graph = seal(halve(built_in), "face_detection", 7, precision="fp16", metadata={})
    # what refines landmarks stays as it is, too
    assert len(graph) < 0.7 * len(model.SerializeToString())
    halved = onnx.load_from_string(graph)
    types = {tensor.name: tensor.data_type for tensor in halved.graph.initializer}
    around = [node for node in halved.graph.node if node.name in set(surgery(model))]
    read = {types[name] for node in around for name in node.input if name in types}
    assert TensorProto.FLOAT in read
    assert TensorProto.FLOAT16 not in read
    network = set(layers(model))
    weights = [node.input[1] for node in model.graph.node if node.name in network]
    assert len(weights) > 30
    assert {types[name] for name in weights} == {TensorProto.FLOAT16}
    canvases = samples.from_golden_set().held_out.canvases[:1]
    exact, light = Trial(built_in, Path("float")), Trial(graph, Path("fp16"))
    found = compare_detections(exact, light, canvases)
    assert (found.faces, found.found, found.extra) == (1, 1.0, 0)
    assert found.landmark_pixels < 0.1


def test_search_leaves_harmful_layers_in_float(small, tmp_path):
    crops = [(contract.CROPS, inputs.crops()[:4])]
    quantiser = Quantiser(small.graph, crops, tmp_path)
    names = quantiser.layers
    asked = []

    def judge(graph: bytes) -> float:
        model = onnx.load_from_string(graph)
        made = {
            name
            for node in model.graph.node
            if node.op_type == "DequantizeLinear"
            for name in node.output
        }
        quantised = {n.name for n in model.graph.node if n.op_type == "Conv" and n.input[1] in made}
        asked.append(quantised)
        return 0.0 if names[1] in quantised else 1.0

    # both of the layers between could be left; only the one that harms is asked for alone
    found = quantiser.search(judge, wanted=0.5)
    assert asked[0] == {names[1], names[2]}
    assert {frozenset(each) for each in asked[1:]} >= {frozenset({names[1]}), frozenset({names[2]})}
    assert set(found.in_float) >= {names[0], names[3]}


def test_an_embedding_that_loses_too_much_is_refused_with_the_figure(small, monkeypatch):
    monkeypatch.setattr(quantize, "MIN_COSINE", 1.1)
    with pytest.raises(WeightsError, match=r"net\.onnx as int8: 48 crops .* cosine of \d\.\d+ "):
        quantizer("int8")(small)


ALIKE = EmbeddingAccuracy(100, 0.995, 0.98, 800, 0.99, 0.989)


@pytest.mark.parametrize(
    ("accuracy", "kept", "problem"),
    [
        (ALIKE, False, ""),
        (ALIKE, True, "0.999 was expected"),
        (replace(ALIKE, cosine_mean=0.9899), False, "mean cosine of 0.9899"),
        (replace(ALIKE, cosine_mean=float("nan")), False, "mean cosine of nan"),
        (replace(ALIKE, verification=0.9879), False, "98.79 % of 1600 pairs"),
        # with few pairs a single one is more than may be lost
        (replace(ALIKE, verification=0.9879, pairs=100), False, ""),
    ],
)
def test_what_an_embedding_may_lose(accuracy, kept, problem):
    said = quantize._too_far_off(accuracy, kept=kept)
    assert problem in said
    assert bool(said) == bool(problem)


FOUND = DetectionAccuracy(150, 100, 0.98, 2, 1.9)


@pytest.mark.parametrize(
    ("accuracy", "problem"),
    [
        (FOUND, ""),
        (replace(FOUND, found=0.97), "finds 97.0 %"),
        (replace(FOUND, extra=3), "and 3 others"),
        (replace(FOUND, landmark_pixels=2.1), "2.10 pixels off"),
        (replace(FOUND, faces=0), "finds no face"),
    ],
)
def test_what_a_detector_may_lose(accuracy, problem):
    said = quantize._finds_others(accuracy)
    assert problem in said
    assert bool(said) == bool(problem)


def test_embeddings_are_compared(small, tmp_path):
    other = prepare(load_network(save_layers(tmp_path / "other.onnx", spread=50)))
    exact, off = Trial(small.graph, small.source), Trial(other.graph, other.source)
    crops = inputs.crops()
    same = compare_embeddings(exact, exact, crops)
    assert same.cosine_lowest > 0.9999
    assert same.verification == same.verification_float
    apart = compare_embeddings(exact, off, crops)
    cosines = (embed(exact, crops) * embed(off, crops)).sum(axis=1)
    assert apart.cosine_mean == pytest.approx(cosines.mean())
    assert apart.cosine_lowest == pytest.approx(cosines.min())
    assert apart.cosine_mean < 0.999


def test_photos_of_a_folder_and_of_a_tar_file(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    portrait = cv2.cvtColor(inputs.portrait(), cv2.COLOR_RGB2BGR)
    for index in range(8):
        jpeg = cv2.imencode(".jpg", np.clip(portrait * (0.6 + index / 10), 0, 255).astype(np.uint8))
        (folder / "deep" / f"{index}.jpg").write_bytes(jpeg[1].tobytes())
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no photo")
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w") as file:
        file.add(folder, "photos")
    detector = Trial(DETECTOR, Path("built-in"))
    for source in (folder, archive):
        parts = samples.from_photos(source, detector)
        # the broken one comes first by name and is one of those to calibrate with
        counts = [len(part.crops) for part in (parts.calibration, parts.held_out)]
        assert counts == [2, 6]
        assert parts.held_out.crops.shape[1:] == (112, 112, 3)
        assert all(c.dtype == np.uint8 for c in parts.held_out.canvases)
    assert len(list(samples.read_photos(folder, most=3))) == 3
    with pytest.raises(WeightsError, match="holds no photo"):
        list(samples.read_photos(_empty(tmp_path), most=3))
    with pytest.raises(WeightsError, match="no folder or tar file"):
        list(samples.read_photos(folder / "notes.txt", most=3))


def _empty(folder: Path) -> Path:
    path = folder / "empty.tar"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w"):
        pass
    path.write_bytes(buffer.getvalue())
    return path
