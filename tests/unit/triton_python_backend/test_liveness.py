"""Lost stages are found among the processes; the command says so as health checks do."""

from pathlib import Path

import pytest

from triton_python_backend.liveness import lost_stages, main


def write(processes: Path, pid: int, name: str, state: str, parent: int) -> None:
    (processes / str(pid)).mkdir()
    (processes / str(pid) / "stat").write_text(f"{pid} ({name}) {state} {parent} 1 1 0 -1")


def test_killed_stages_of_this_server_are_found(tmp_path):
    write(tmp_path, 10, "tritonserver", "S", 1)
    write(tmp_path, 11, "triton_python_b", "S", 10)
    write(tmp_path, 12, "triton_python_b", "Z", 10)
    write(tmp_path, 13, "triton_python_b", "Z", 99)
    write(tmp_path, 14, "a) Z 10 (b", "S", 10)
    write(tmp_path, 15, "sh", "Z", 10)
    (tmp_path / "16").mkdir()
    (tmp_path / "self").mkdir()

    assert lost_stages(10, tmp_path) == {12}


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v2/health/live", "http://256.0.0.1/"])
def test_a_server_that_does_not_answer_is_not_healthy(url, capsys, monkeypatch):
    monkeypatch.setattr("triton_python_backend.liveness._servers", list)

    assert main([url]) == 1
    assert capsys.readouterr().err.startswith(url)
