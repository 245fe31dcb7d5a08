"""The trial behind a plan: a network that answers nonsense gets none."""

import pytest

from tests.support.tiny_graphs import save_no_number, save_scaled
from triton_python_backend.contract import EMBEDDING_STAGE
from triton_python_backend.onnx_trial import plan
from triton_python_backend.self_test import SelfTestError

CONFIG = {
    "name": "scaled",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": ["-1"]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": ["-1"]}],
}


def test_a_network_without_a_trial_of_its_own_is_loaded_and_planned(tmp_path):
    save_scaled(tmp_path / "model.onnx", 2)
    lines = list(plan(CONFIG, tmp_path / "model.onnx"))
    assert f"model {tmp_path / 'model.onnx'}" in lines
    assert lines[-1] == "input X"


def test_a_network_that_answers_no_number_gets_no_plan(tmp_path):
    save_no_number(tmp_path / "model.onnx")
    config = {
        "name": EMBEDDING_STAGE.name,
        "max_batch_size": EMBEDDING_STAGE.max_batch_size,
        "input": [_entry(tensor) for tensor in EMBEDDING_STAGE.inputs],
        "output": [_entry(tensor) for tensor in EMBEDDING_STAGE.outputs],
    }
    with pytest.raises(SelfTestError, match="not finite"):
        next(plan(config, tmp_path / "model.onnx"))


def _entry(tensor):
    return {"name": tensor.name, "data_type": f"TYPE_{tensor.dtype}", "dims": tensor.dims}
