import hashlib
import json
from pathlib import Path

import pytest

from tools.errors import WeightsError
from tools.registry.prepared import Prepared
from tools.registry.repository import (
    ModelCard,
    Source,
    newest_card,
    place,
    read_version_metadata,
    versions,
)


@pytest.fixture
def repository(tmp_path) -> Path:
    for stage in ("face_detection", "face_embedding"):
        folder = tmp_path / "repository" / stage
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(f'name: "{stage}"\n')
    return tmp_path / "repository"


def prepared(stage: str, **fields) -> Prepared:
    settings = {
        "graph": b"graph of " + stage.encode(),
        "identity": -2,
        "source": Path("/somewhere/weights.onnx"),
        "source_sha256": "ab" * 32,
        "network": "a network",
        **fields,
    }
    return Prepared(stage=stage, **settings)


BOTH = (prepared("face_detection"), prepared("face_embedding", dimension=128, space=1))


def names(repository: Path) -> set[str]:
    return {path.name for stage in repository.iterdir() for path in stage.iterdir()}


def test_files_and_sidecar_are_written(repository):
    cards = place(BOTH, repository=repository, licence="Apache-2.0")
    folder = repository / "face_embedding" / "1"
    assert (folder / "model.onnx").read_bytes() == b"graph of face_embedding"
    card = read_version_metadata(folder / "model.json")
    assert card == cards[1]
    assert card == ModelCard(
        stage="face_embedding",
        version=1,
        sha256=hashlib.sha256(b"graph of face_embedding").hexdigest(),
        id="fffffffffffffffe",
        source=Source("weights.onnx", "ab" * 32),
        network="a network",
        dimension=128,
        space="0000000000000001",
        licence="Apache-2.0",
        imported_at=card.imported_at,
    )
    # Triton may run as another user
    assert folder.stat().st_mode & 0o755 == 0o755


def test_the_next_free_number_is_taken_per_stage(repository):
    place(BOTH[:1], repository=repository)
    cards = place(BOTH, repository=repository)
    assert [card.version for card in cards] == [2, 1]
    assert place(BOTH[:1], repository=repository, version=9)[0].version == 9
    assert place(BOTH[:1], repository=repository)[0].version == 10
    assert versions(repository / "face_detection") == [1, 2, 9, 10]
    assert newest_card(repository / "face_detection").version == 10
    assert newest_card(repository / "face_embedding").version == 1


def test_an_existing_version_is_refused_and_nothing_placed(repository):
    place(BOTH[1:], repository=repository, version=3)
    with pytest.raises(WeightsError, match="face_embedding/3 exists already"):
        place(BOTH, repository=repository, version=3)
    assert versions(repository / "face_detection") == []
    assert names(repository) == {"config.pbtxt", "3"}


def test_a_number_below_one_is_refused(repository):
    with pytest.raises(WeightsError, match="a number from 1, not 0"):
        place(BOTH, repository=repository, version=0)


def test_a_folder_that_is_no_repository_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="is no stage of a model repository"):
        place(BOTH, repository=tmp_path)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_the_second_rename_takes_the_first_back(repository, monkeypatch, failure):
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if "face_embedding" in str(target) and target.name == "1":
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    expected = WeightsError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is WeightsError else None):
        place(BOTH, repository=repository)
    assert names(repository) == {"config.pbtxt"}


def test_a_version_that_appears_meanwhile_is_not_overwritten(repository, monkeypatch):
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        if not target.exists():
            target.mkdir()
            (target / "model.onnx").write_bytes(b"another's")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(WeightsError, match="not empty"):
        place(BOTH[:1], repository=repository)
    assert (repository / "face_detection" / "1" / "model.onnx").read_bytes() == b"another's"
    assert names(repository) == {"config.pbtxt", "1"}


def test_no_number_is_seen_before_its_files_are_whole(repository, monkeypatch):
    rename, seen = Path.rename, []

    def watching(self: Path, target: Path) -> Path:
        seen.append((names(repository) - {self.name}, sorted(path.name for path in self.iterdir())))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watching)
    place(BOTH[:1], repository=repository)
    assert seen == [({"config.pbtxt"}, ["model.json", "model.onnx"])]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"stage": "x"}'])
def test_a_broken_sidecar_is_named(tmp_path, content):
    path = tmp_path / "model.json"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.json is no sidecar"):
        read_version_metadata(path)


def test_unknown_fields_of_a_sidecar_are_refused(repository):
    place(BOTH[:1], repository=repository)
    path = repository / "face_detection" / "1" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra": 1}))
    with pytest.raises(WeightsError, match="extra"):
        read_version_metadata(path)


def test_folders_without_a_network_are_no_versions(repository):
    stage = repository / "face_detection"
    (stage / "4").mkdir()
    (stage / "notes").mkdir()
    assert versions(stage) == []
    assert newest_card(stage) is None
    # but their number is taken
    assert place(BOTH[:1], repository=repository)[0].version == 5
