"""The shipped cards are what is rendered from the measured values, and name the weights."""

import json

import pytest
from typer.testing import CliRunner

from gateway.settings import CHECKOUT
from tools.cards.render import render_card
from tools.commands.models import app
from tools.registry.repository import SIDECAR_FILE, read_version_metadata
from triton_python_backend.contract import ONNX_STAGES

CARDS = CHECKOUT / "docs" / "models"
STAGES = [stage.name for stage in ONNX_STAGES]


@pytest.mark.parametrize("stage", STAGES)
def test_card_is_rendered_from_what_was_measured(stage, tmp_path):
    target = tmp_path / "card.md"
    run = CliRunner().invoke(app, ["card", str(CARDS / f"{stage}.json"), "--out", str(target)])
    assert run.exit_code == 0, run.output
    assert target.read_text() == (CARDS / f"{stage}.md").read_text()


@pytest.mark.parametrize("stage", STAGES)
def test_card_measures_the_weights_that_are_shipped(stage):
    measured = json.loads((CARDS / f"{stage}.json").read_text())
    built_in = CHECKOUT / "model_repository" / stage / "1"
    trained = read_version_metadata(built_in / SIDECAR_FILE).source.sha256
    assert trained == measured["sha256"]
    assert trained in render_card(measured)


def test_other_json_is_refused(tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert CliRunner().invoke(app, ["card", str(other)]).exit_code == 1
