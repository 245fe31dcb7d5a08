"""What fuzzing found stays mended: every input of the corpora is run again, by each target."""

import subprocess
import sys

import pytest

from tests.fuzz.corpus_files import CORPUS, inputs_of
from tests.fuzz.targets import TARGETS, load
from tests.support.command_line import PYTHONPATH


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_states_holds_for_its_corpus(target):
    run, inputs = load(target), list(inputs_of(target))
    assert inputs
    for name, data in inputs:
        try:
            run(data)
        except BaseException as error:
            raise AssertionError(f"{target}, input {name}") from error


def test_each_corpus_is_small_and_of_a_target():
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    files = [file for file in CORPUS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 2 << 20


def test_the_fuzzer_runs(tmp_path):
    """For a second, from a corpus of its own; what it finds it reports by its exit status."""
    (tmp_path / "corpus").mkdir()
    command = [sys.executable, "-m", "tests.fuzz", "orientation", "--seconds", "1"]
    options = ["--corpus", str(tmp_path / "corpus"), "--findings", str(tmp_path)]
    done = subprocess.run(
        [*command, *options], env={"PYTHONPATH": PYTHONPATH}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "stat::number_of_executed_units" in done.stderr
    assert any((tmp_path / "corpus").iterdir())
