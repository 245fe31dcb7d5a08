"""Trained networks take the place of the built-in ones, all or none."""

import shutil
from pathlib import Path

import pytest

from gateway.registry.calibration import CALIBRATION_FILE
from gateway.registry.reference import REFERENCE_FILE
from gateway.settings import CHECKOUT
from tests.support import tiny_sources
from tools.errors import WeightsError
from tools.importing.importer import Order
from tools.registry.repository import MODEL_FILE, SIDECAR_FILE, read_version_metadata
from tools.serving.weights import check_digests
from tools.training.shipping import LICENCE, ship


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKOUT / "model_repository", tmp_path / "model_repository"))


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    return tiny_sources.save_embedder(tmp_path / "net.onnx")


@pytest.fixture
def head(tmp_path: Path) -> Path:
    return tiny_sources.save_head(tmp_path / "head.onnx", [1.0, 2.0, 3.0])


def contents(repository: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def test_networks_replace_version_1_of_their_stages(repository, embedder, head):
    stages = {("face_embedding", "1"), ("face_scoring", "1")}
    for stage, number in stages:
        for name in (CALIBRATION_FILE, REFERENCE_FILE):
            (repository / stage / number / name).write_text("of the old weights")
    before = contents(repository)
    cards = ship(Order(embedding=embedder, scoring=head), repository)
    after = contents(repository)
    gone = {path.relative_to(repository) for path in before if path not in after}
    changed = {path.relative_to(repository) for path in after if before[path] != after[path]}
    for paths, names in (
        (gone, {CALIBRATION_FILE, REFERENCE_FILE}),
        (changed, {MODEL_FILE, SIDECAR_FILE}),
    ):
        assert paths == {Path(*stage, name) for stage in stages for name in names}
    for card in cards:
        shipped = read_version_metadata(repository / card.stage / "1" / SIDECAR_FILE)
        assert (shipped.id, shipped.version, shipped.licence) == (card.id, 1, LICENCE)
    assert cards[1].space == cards[0].id
    check_digests(repository)


def test_a_head_alone_stays_in_the_space_of_the_built_in_embedding(repository, tmp_path):
    wide = tiny_sources.save_head(tmp_path / "wide.onnx", [1.0] * 128)
    built_in = read_version_metadata(repository / "face_embedding" / "1" / SIDECAR_FILE)
    (card,) = ship(Order(scoring=wide), repository)
    assert card.space == built_in.id


def test_what_does_not_fit_replaces_nothing(repository, embedder, head):
    before = contents(repository)
    with pytest.raises(WeightsError, match="ship a scoring head"):
        ship(Order(embedding=embedder), repository)
    with pytest.raises(WeightsError):
        ship(Order(detection=head, embedding=embedder, scoring=head), repository)
    with pytest.raises(WeightsError):
        ship(Order(scoring=head), repository)
    assert contents(repository) == before
