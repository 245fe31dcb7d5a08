import json

import pytest

from gateway.registry.version_metadata import read_version_metadata
from tools.registry import repository


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "face_embedding" / "2"
    path.mkdir(parents=True)
    return path


def test_metadata_is_read(tmp_path, folder):
    content = {"sha256": "ab", "source": {"file": "x.onnx", "sha256": "cd"}, "licence": "MIT"}
    (folder / repository.METADATA_FILE).write_text(json.dumps(content | {"stage": "unused here"}))
    sidecar = read_version_metadata(tmp_path, "face_embedding", "2")
    assert (sidecar.sha256, sidecar.source.file, sidecar.licence) == ("ab", "x.onnx", "MIT")
    assert sidecar.network is None


def test_a_version_placed_by_hand_has_no_metadata(tmp_path, folder):
    assert read_version_metadata(tmp_path, "face_embedding", "2") is None
    assert read_version_metadata(tmp_path, "face_embedding", "3") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"dimension": "many"}'])
def test_broken_metadata_is_logged_and_ignored(tmp_path, folder, text, caplog):
    (folder / repository.METADATA_FILE).write_text(text)
    assert read_version_metadata(tmp_path, "face_embedding", "2") is None
    assert caplog.records
