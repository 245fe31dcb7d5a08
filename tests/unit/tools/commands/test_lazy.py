"""Sub-commands are imported when they are called, and say what they lack."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tools.__main__ import COMMANDS, app
from tools.commands import models
from tools.commands.lazy import Entry, lazy_group

HEAVY = {"aiohttp", "cv2", "numpy", "onnx", "onnxruntime", "sqlalchemy", "torch"}
RUNNER = CliRunner()


@pytest.mark.parametrize("words", [["--help"], ["models", "--help"]], ids=" ".join)
def test_help_imports_no_command(words):
    code = (
        "import sys\nfrom tools.__main__ import app\n"
        f"app({words!r}, standalone_mode=False)\n"
        f"print('loaded:', sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "loaded: []" in done.stderr
    assert "Commands" in done.stdout


@pytest.mark.parametrize(
    "entry", [*COMMANDS.values(), *models.COMMANDS.values()], ids=lambda entry: entry.name
)
def test_a_group_lists_the_first_sentence_of_each_command(entry):
    command = entry.load("command", "aurum")
    assert " ".join((command.help or "").split("\n\n")[0].split()) == entry.help


def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    (tmp_path / "broken.py").write_text("import tools.no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    entries = {
        "lacking": Entry("needs_more", "run", "Needs more.", "train"),
        "broken": Entry("broken", "run", "Is broken.", "train"),
    }
    group = typer.Typer(cls=lazy_group(entries))
    group.callback()(lambda: None)

    done = RUNNER.invoke(group, ["lacking"], prog_name="aurum")
    assert done.exit_code == 1
    assert "`aurum lacking` needs no_such_package: pip install 'aurum[train]'" in done.stderr
    # a module of this project that is missing is a fault of ours, and no lack of packages
    assert isinstance(RUNNER.invoke(group, ["broken"]).exception, ModuleNotFoundError)


def test_a_misspelt_command_is_refused_with_the_nearest():
    done = RUNNER.invoke(app, ["modles"])
    assert done.exit_code == 2
    assert "models" in done.stderr
