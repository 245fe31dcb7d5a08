"""The shipped cards are what is rendered from the measured values, and name the weights."""

import hashlib
import json

import pytest
from typer.testing import CliRunner

from gateway.settings import CHECKOUT
from tools.models import app
from tools.training.cards import render_card

CARDS = CHECKOUT / "docs" / "models"
WEIGHTS = CHECKOUT / "tools" / "packs" / "lite"
STAGES = sorted(path.stem for path in WEIGHTS.glob("*.onnx"))


def test_the_lite_pack_has_the_networks_that_are_trained():
    assert STAGES == ["face_embedding", "face_scoring"]


@pytest.mark.parametrize("stage", STAGES)
def test_card_is_rendered_from_what_was_measured(stage, tmp_path):
    target = tmp_path / "card.md"
    run = CliRunner().invoke(app, ["card", str(CARDS / f"{stage}.json"), "--out", str(target)])
    assert run.exit_code == 0, run.output
    assert target.read_text() == (CARDS / f"{stage}.md").read_text()


@pytest.mark.parametrize("stage", STAGES)
def test_card_measures_the_weights_that_are_shipped(stage):
    measured = json.loads((CARDS / f"{stage}.json").read_text())
    digest = hashlib.sha256((WEIGHTS / f"{stage}.onnx").read_bytes()).hexdigest()
    assert digest == measured["sha256"]
    assert digest in render_card(measured)


def test_other_json_is_refused(tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert CliRunner().invoke(app, ["card", str(other)]).exit_code == 1
