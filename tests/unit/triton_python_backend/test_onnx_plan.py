"""The plan of a version for the compiled backend, or the reason not to serve it."""

import io
import json
import sys

from tests.support.tiny_graphs import save_scaled
from triton_python_backend import onnx_plan, onnx_trial

CONFIG = {
    "name": "negative",
    "max_batch_size": 8,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": ["-1"]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": ["-1"]}],
    "parameters": {
        "intra_op_thread_count": {"string_value": "1"},
        "rows_per_run": {"string_value": "4"},
        "enable_mem_arena": {"string_value": "0"},
    },
}


def ask(config, folder, monkeypatch, capsys) -> tuple[int, str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(config)))
    monkeypatch.setattr(sys, "argv", ["onnx_plan", str(folder)])
    code = onnx_plan.main()
    return code, capsys.readouterr().out


def test_a_plan_follows_the_config(tmp_path, monkeypatch, capsys):
    save_scaled(tmp_path / "model.onnx", -1)
    code, said = ask(CONFIG, tmp_path, monkeypatch, capsys)
    plan = [line.split(" ", 1) for line in said.splitlines()]
    assert code == 0
    assert dict(plan) == {
        "library": str(onnx_trial.find_library()),
        "model": str(tmp_path / "model.onnx"),
        "level": "99",
        "intra": "1",
        "inter": "0",
        "parallel": "0",
        "pattern": "1",
        "arena": "0",
        "batches": "1",
        "rows_per_run": "4",
        "input": "X",
    }


def test_a_file_of_another_name_is_accepted(tmp_path, monkeypatch, capsys):
    save_scaled(tmp_path / "other.onnx", -1)
    named = {**CONFIG, "default_model_filename": "other.onnx"}
    code, said = ask(named, tmp_path, monkeypatch, capsys)
    assert code == 0
    assert f"model {tmp_path / 'other.onnx'}" in said


def test_a_config_that_does_not_fit_is_reported(tmp_path, monkeypatch, capsys):
    save_scaled(tmp_path / "model.onnx", -1)
    wrong = {**CONFIG, "output": [{"name": "Z", "data_type": "TYPE_FP32", "dims": ["-1"]}]}
    code, said = ask(wrong, tmp_path, monkeypatch, capsys)
    assert code == 1
    assert said.startswith("ConfigMismatchError: Z is not in the graph")


def test_an_onnxruntime_without_a_library_is_reported(tmp_path, monkeypatch, capsys):
    save_scaled(tmp_path / "model.onnx", -1)
    monkeypatch.setattr(onnx_trial, "find_library", lambda: None)
    code, said = ask(CONFIG, tmp_path, monkeypatch, capsys)
    assert code == 1
    assert "no shared library" in said


def test_a_network_that_passed_is_not_tried_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(onnx_plan.PLANS_VARIABLE, str(tmp_path / "plans"))
    save_scaled(tmp_path / "model.onnx", -1)
    first = ask(CONFIG, tmp_path, monkeypatch, capsys)
    tried = []
    monkeypatch.setattr(onnx_trial, "plan", lambda *asked: tried.append(asked) or ["tried"])
    assert ask(CONFIG, tmp_path, monkeypatch, capsys) == first
    assert not tried
    other = {**CONFIG, "parameters": {}}
    assert ask(other, tmp_path, monkeypatch, capsys) == (0, "tried\n")
    save_scaled(tmp_path / "model.onnx", 2)
    assert ask(CONFIG, tmp_path, monkeypatch, capsys) == (0, "tried\n")


def test_a_network_that_failed_is_tried_each_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(onnx_plan.PLANS_VARIABLE, str(tmp_path / "plans"))
    (tmp_path / "model.onnx").write_bytes(b"no network")
    assert ask(CONFIG, tmp_path, monkeypatch, capsys)[0] == 1
    assert not (tmp_path / "plans").exists()


def test_few_plans_are_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(onnx_plan.PLANS_VARIABLE, str(tmp_path / "plans"))
    monkeypatch.setattr(onnx_plan, "MOST_KEPT", 2)
    for scale in (1, 2, 3):
        save_scaled(tmp_path / "model.onnx", scale)
        ask(CONFIG, tmp_path, monkeypatch, capsys)
    assert len(list((tmp_path / "plans").iterdir())) == 2
