"""An import measures a detector on photos, or knows what was measured of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.support import photos, tiny_sources
from tests.support.serving import copy_repository
from tools.__main__ import app
from tools.commands.models import second_look
from tools.errors import WeightsError
from tools.evaluation import second_look as measurement
from tools.importing.importer import Order, as_it_is, import_weights
from tools.importing.second_look import known_second_look
from tools.registry.prepared import Prepared
from tools.registry.repository import read_version_metadata
from triton_python_backend.contract import DETECTION, parse_id
from triton_python_backend.second_look import SecondLook, SecondLooks

SHIPPED = Path(__file__).parents[5] / "model_repository"
DET_500M = "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a"


@pytest.fixture
def sheets(tmp_path: Path) -> Path:
    folder = tmp_path / "sheets"
    folder.mkdir()
    for number in range(4):
        sheet = photos.crowd(2, 2, first=120 + 20 * number, step=3)
        (folder / f"{number}.jpg").write_bytes(photos.encode(sheet, "JPEG"))
    return folder


def built_in() -> Prepared:
    path = SHIPPED / DETECTION.name / "1" / "model.onnx"
    return Prepared(DETECTION.name, path.read_bytes(), 7, path, "0" * 64, "SCRFD")


def test_a_detector_is_measured_on_the_photos_of_its_import(sheets, monkeypatch):
    monkeypatch.setattr(measurement, "FEWEST_PHOTOS", 3)
    said: list[str] = []
    found = second_look.measuring(sheets, as_it_is, progress=said.append)(built_in())
    assert found.second_look is not None
    assert found.second_look["photos"] == 4
    assert SecondLook.read(found.second_look) is not None
    assert said[-1] == "measuring the detector: 4 photos"


def test_other_stages_are_left_as_they_are(sheets):
    item = Prepared("face_embedding", b"", 7, Path("x.onnx"), "0" * 64, "ArcFace")
    assert second_look.measuring(sheets, as_it_is, progress=print)(item) is item


def test_too_few_photos_are_refused(sheets):
    with pytest.raises(WeightsError, match="1000 are needed"):
        second_look.measuring(sheets, as_it_is, progress=lambda _: None)(built_in())


def test_photos_without_anything_to_measure_are_refused(tmp_path, sheets, monkeypatch):
    repository = copy_repository(tmp_path / "repository")
    monkeypatch.setenv("AURUM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AURUM_MODEL_REPOSITORY", str(repository))
    file = tiny_sources.save_embedder(tmp_path / "net.onnx")
    words = ["models", "import", "--embedding", str(file), "--calibration-photos", str(sheets)]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    assert "serves detectors, --int8 and --fp16 only" in refused.stderr


def test_published_detectors_are_known():
    found = known_second_look(DET_500M)
    assert found is not None
    assert SecondLook.read(found) == SecondLook(0.737, 0.707)
    assert known_second_look("0" * 64) is None


def test_an_import_writes_what_is_known(tmp_path, monkeypatch):
    known = {"closeup_below": 0.6, "turned_below": 0.65}
    monkeypatch.setattr("tools.importing.stages.scrfd.known_second_look", lambda _: known)
    repository = copy_repository(tmp_path / "repository")
    file = tiny_sources.save_detector(
        tmp_path / "det.onnx",
        distances=np.ones((1, 4), np.float32),
        offsets=np.ones((1, 10), np.float32),
    )
    (metadata,) = import_weights(Order(detection=file), repository)
    path = repository / DETECTION.name / str(metadata.version) / "model.json"
    assert read_version_metadata(path) == metadata
    assert metadata.second_look == known
    looks = SecondLooks(repository)
    assert looks.of(parse_id(metadata.id)) == SecondLook(0.6, 0.65)


def test_the_built_in_detector_was_measured():
    document = json.loads((SHIPPED / DETECTION.name / "1" / "model.json").read_bytes())
    found = SecondLooks(SHIPPED).of(parse_id(document["id"]))
    assert found == SecondLook.read(document["second_look"])
