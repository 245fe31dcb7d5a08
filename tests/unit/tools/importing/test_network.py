import onnx
import pytest

from tests.support import tiny_sources
from tools.errors import WeightsError
from tools.importing.network import load_network


def test_a_network_is_described(tmp_path):
    path = tiny_sources.save_head(tmp_path / "head.onnx", [1.0, 2.0], metadata={"a": "b"})
    network = load_network(path)
    assert network.input_name == "embedding"
    assert network.input_shape == (None, 2)
    assert network.opset == 11
    assert network.parameters == 2
    assert (network.metadata("a"), network.metadata("c")) == ("b", None)


def test_the_error_names_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"no\.onnx cannot be read: No such file"):
        load_network(tmp_path / "no.onnx")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"x" * 999])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "some.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not an ONNX file"):
        load_network(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WeightsError, match="is no"):
        load_network(path)


def edited(tmp_path, edit):
    path = tiny_sources.save_head(tmp_path / "head.onnx", [1.0, 2.0])
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda model: setattr(model.opset_import[0], "version", 9), "exported with opset 9; 11"),
        (lambda model: setattr(model.opset_import[0], "version", 21), "exported with opset 21; 11"),
        (lambda model: setattr(model, "ir_version", 11), "file format 11; Triton 24.10 reads"),
        (lambda model: setattr(model.graph.node[0], "op_type", "NoSuch"), "not a valid ONNX"),
        (lambda model: setattr(model.graph.node[0], "domain", "custom"), "operators of custom"),
        (lambda model: model.graph.input.append(other_input()), "the inputs embedding, other; one"),
    ],
)
def test_networks_that_triton_cannot_run_are_refused(tmp_path, edit, reason):
    with pytest.raises(WeightsError, match=reason):
        load_network(edited(tmp_path, edit))


def other_input() -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [1])
