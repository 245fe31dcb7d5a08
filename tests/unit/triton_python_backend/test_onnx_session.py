"""Rules of the Python onnxruntime backend, on tiny graphs with known answers."""

import numpy as np
import onnxruntime
import pytest

from tests.support.tiny_graphs import save_twice
from triton_python_backend.onnx_session import (
    Call,
    ConfigMismatchError,
    OnnxSession,
    session_options,
)


def config(**changes):
    return {
        "max_batch_size": 8,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": ["-1"]}],
        "output": [
            {"name": "Y", "data_type": "TYPE_FP32", "dims": ["-1"]},
            {"name": "ROWS", "data_type": "TYPE_INT64", "dims": ["1"]},
        ],
        "parameters": {"intra_op_thread_count": {"string_value": "1"}},
        **changes,
    }


@pytest.fixture
def path(tmp_path):
    return save_twice(tmp_path / "model.onnx")


def call(*values: float, outputs=("Y", "ROWS"), width: int = 2) -> Call:
    rows = np.repeat(np.array(values, np.float32)[:, None], width, axis=1)
    return Call({"X": rows}, outputs)


def test_calls_are_joined_into_one_run_and_split_again(path):
    first, second = OnnxSession(config(), path).run([call(1, 2), call(3)])
    assert first["Y"].tolist() == [[2, 2], [4, 4]]
    assert second["Y"].tolist() == [[6, 6]]
    assert first["ROWS"].tolist() == [[3], [3]]
    assert second["ROWS"].tolist() == [[3]]


def test_without_batching_each_call_runs_alone(path):
    unbatched = config(
        max_batch_size=0,
        input=[{"name": "X", "data_type": "TYPE_FP32", "dims": ["-1", "-1"]}],
        output=[
            {"name": "Y", "data_type": "TYPE_FP32", "dims": ["-1", "-1"]},
            {"name": "ROWS", "data_type": "TYPE_INT64", "dims": ["-1", "1"]},
        ],
    )
    answers = OnnxSession(unbatched, path).run([call(1), call(2, 3)])
    assert [answer["ROWS"][0, 0] for answer in answers] == [1, 2]


def test_no_run_exceeds_the_configured_rows(path):
    two_rows = config(parameters={"rows_per_run": {"string_value": "2"}})
    calls = [call(1), call(2), call(3), call(4, 5, 6), call(7, 8)]
    answers = OnnxSession(two_rows, path).run(calls)
    assert [each["Y"][:, 0].tolist() for each in answers] == [
        [2], [4], [6], [8, 10, 12], [14, 16]
    ]  # fmt: skip
    # the first two together, the third alone, the next in two runs, the last in one
    assert [each["ROWS"][:, 0].tolist() for each in answers] == [
        [2], [2], [1], [2, 2, 1], [2, 2]
    ]  # fmt: skip


def test_only_requested_outputs_are_returned(path):
    only_y, only_rows = OnnxSession(config(), path).run(
        [call(1, outputs=("Y",)), call(2, outputs=("ROWS",))]
    )
    assert set(only_y) == {"Y"}
    assert set(only_rows) == {"ROWS"}


def test_a_bad_call_fails_alone(path):
    bad = Call({"X": np.zeros((1, 2), np.float64)}, ("Y",))
    good, failed = OnnxSession(config(), path).run([call(1, outputs=("Y",)), bad])
    assert good["Y"].tolist() == [[2, 2]]
    assert isinstance(failed, Exception)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": [{"name": "Z", "data_type": "TYPE_FP32", "dims": ["-1"]}]}, "Z is not in"),
        ({"input": []}, "input X is not in the config"),
        ({"input": [{"name": "X", "data_type": "TYPE_FP16", "dims": ["-1"]}]}, "TYPE_FP16"),
        ({"output": [{"name": "ROWS", "data_type": "TYPE_INT64", "dims": ["3"]}]}, "shape"),
        ({"output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": ["-1", "2"]}]}, "shape"),
        ({"parameters": {"intra_op_thread_count": {"string_value": "x"}}}, "no whole number"),
    ],
)
def test_config_that_does_not_fit_is_refused(path, change, message):
    with pytest.raises(ConfigMismatchError, match=message):
        OnnxSession(config(**change), path)


def test_a_fixed_batch_axis_cannot_batch(tmp_path):
    with pytest.raises(ConfigMismatchError, match="shape"):
        OnnxSession(config(), save_twice(tmp_path / "fixed.onnx", rows=1))


LEVELS = onnxruntime.GraphOptimizationLevel


@pytest.mark.parametrize(
    ("level", "expected"),
    [(None, LEVELS.ORT_ENABLE_ALL), (-1, LEVELS.ORT_ENABLE_BASIC),
     (1, LEVELS.ORT_ENABLE_EXTENDED), (2, LEVELS.ORT_DISABLE_ALL)],
)  # fmt: skip
def test_graph_level_has_the_native_meaning(level, expected):
    chosen = {} if level is None else {"optimization": {"graph": {"level": level}}}
    assert session_options(chosen).graph_optimization_level == expected


def test_threads_and_modes_come_from_parameters():
    parameters = {
        "intra_op_thread_count": {"string_value": "3"},
        "inter_op_thread_count": {"string_value": "2"},
        "execution_mode": {"string_value": "1"},
        "enable_mem_arena": {"string_value": "0"},
    }
    options = session_options({"parameters": parameters})
    assert options.intra_op_num_threads == 3
    assert options.inter_op_num_threads == 2
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena
