import os
import shutil
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.settings import CHECKOUT
from tests.support import tiny_sources
from tools.importing.mirror import STARTERS, find_starter_weights, import_missing
from tools.registry.repository import versions
from triton_python_backend.contract import ONNX_STAGES

MODELS = Path(os.environ.get("AURUM_TEST_MODELS", CHECKOUT.parent / "shared" / "models"))
needs_models = pytest.mark.skipif(
    not all((MODELS / item.name).is_file() for item in STARTERS),
    reason=f"{MODELS} lacks the starter weights (AURUM_TEST_MODELS names the folder)",
)


@pytest.fixture
def repository(tmp_path) -> Path:
    folder = tmp_path / "repository"
    for stage in ONNX_STAGES:
        (folder / stage.name).mkdir(parents=True)
        config = CHECKOUT / "model_repository" / stage.name / "config.pbtxt"
        shutil.copy(config, folder / stage.name)
    return folder


def test_without_a_mirror_the_error_explains_how_to_get_weights(repository):
    with pytest.raises(ConfigurationError) as caught:
        import_missing(repository, None)
    text = str(caught.value)
    assert "face_detection and face_embedding" in text
    assert "AURUM_MODEL_MIRROR is not set" in text
    assert "put det_500m.onnx and mobilefacenet_arcface_128.onnx into a folder" in text
    assert "aurum models import" in text


def test_the_error_names_a_mirror_that_is_no_folder(repository, tmp_path):
    with pytest.raises(ConfigurationError, match=r"AURUM_MODEL_MIRROR=.*nowhere is no folder"):
        import_missing(repository, str(tmp_path / "nowhere"))


def test_the_error_names_a_mirror_without_the_files(repository, tmp_path):
    with pytest.raises(ConfigurationError, match=f"AURUM_MODEL_MIRROR={tmp_path} has no det_500m"):
        import_missing(repository, str(tmp_path))


def test_a_damaged_file_is_refused(repository, tmp_path):
    (tmp_path / "det_500m.onnx").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match=r"not 5e4447f5"):
        import_missing(repository, str(tmp_path))


@needs_models
def test_only_missing_stages_are_filled(repository, tmp_path):
    assert set(find_starter_weights(MODELS)) == {"face_detection", "face_embedding"}
    head = tiny_sources.save_head(tmp_path / "head.onnx", [0.5] * 128)
    cards = import_missing(repository, str(MODELS), head=head)
    assert [card.stage for card in cards] == [stage.name for stage in ONNX_STAGES]
    assert cards[1].dimension == 128
    assert cards[2].space == cards[1].id
    assert import_missing(repository, None, head=head) == []
    assert [versions(repository / stage.name) for stage in ONNX_STAGES] == [[1]] * 3


@needs_models
def test_only_missing_files_are_required(repository):
    import_missing(repository, str(MODELS))
    shutil.rmtree(repository / "face_embedding" / "1")
    with pytest.raises(ConfigurationError, match="has no weights for face_embedding, and"):
        import_missing(repository, None)
