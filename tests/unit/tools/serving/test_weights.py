import shutil
from pathlib import Path

import pytest

from gateway.settings import CHECKOUT
from tests.support.tiny_sources import save_embedder
from tools.importing.importer import Order, import_weights
from tools.serving.errors import ServingError
from tools.serving.weights import check_digests

NUMBERS = shutil.ignore_patterns("[0-9]*")


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """Import a tiny embedder; return the folder of its version."""
    repository = tmp_path / "repository"
    stage = "face_embedding"
    shutil.copytree(CHECKOUT / "model_repository" / stage, repository / stage, ignore=NUMBERS)
    source = save_embedder(tmp_path / "embedder.onnx")
    import_weights(Order(embedding=source), repository)
    return repository / "face_embedding" / "1"


def test_an_imported_version_passes(version):
    check_digests(version.parents[1])


def test_the_error_names_a_changed_network(version):
    with (version / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ServingError, match=r"face_embedding/1/model\.onnx was changed"):
        check_digests(version.parents[1])


def test_the_error_names_unreadable_metadata(version):
    (version / "model.json").write_text("{}")
    with pytest.raises(ServingError, match=r"model\.json"):
        check_digests(version.parents[1])


def test_a_version_without_metadata_is_served(version):
    (version / "model.json").unlink()
    (version / "model.onnx").write_bytes(b"whatever")
    check_digests(version.parents[1])
