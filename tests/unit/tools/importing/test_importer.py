import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from gateway.settings import CHECKOUT
from tests.support import tiny_sources
from tools.errors import WeightsError
from tools.importing.importer import Order, import_weights, option_for
from tools.importing.network import load_network
from tools.importing.stages import further
from tools.registry.prepared import Prepared
from tools.registry.repository import versions
from triton_python_backend.contract import ONNX_STAGES


@pytest.fixture
def repository(tmp_path) -> Path:
    folder = tmp_path / "repository"
    for stage in ONNX_STAGES:
        (folder / stage.name).mkdir(parents=True)
        config = CHECKOUT / "model_repository" / stage.name / "config.pbtxt"
        shutil.copy(config, folder / stage.name)
    return folder


@pytest.fixture
def sources(tmp_path) -> Order:
    return Order(
        detection=tiny_sources.save_detector(
            tmp_path / "det.onnx",
            distances=np.ones((1, 4), np.float32),
            offsets=np.ones((1, 10), np.float32),
        ),
        embedding=tiny_sources.save_embedder(tmp_path / "net.onnx"),
        scoring=tiny_sources.save_head(tmp_path / "head.onnx", [1.0, 2.0, 3.0]),
    )


def test_an_order_lists_its_stages(sources):
    assert sources.stages == tuple(stage.name for stage in ONNX_STAGES)
    anew = Prepared("face_scoring", b"graph", 1, Path("model.onnx"), "0" * 64, "head")
    assert Order(finished=(anew,)).stages == ("face_scoring",)


def all_versions(repository: Path) -> list[list[int]]:
    return [versions(repository / stage.name) for stage in ONNX_STAGES]


def test_files_imported_together_fit_together(repository, sources):
    steps: list[str] = []
    cards = import_weights(sources, repository, steps.append)
    assert all_versions(repository) == [[1], [1], [1]]
    assert cards[2].space == cards[1].id
    assert len(steps) == 4
    sessions = [
        onnxruntime.InferenceSession(repository / stage.name / "1" / "model.onnx")
        for stage in ONNX_STAGES[1:]
    ]
    crops = np.full((2, 112, 112, 3), 200, np.uint8)
    embedding, space = sessions[0].run(["EMBEDDING", "SPACE"], {"CROPS": crops})
    scores = sessions[1].run(["SCORE"], {"EMBEDDING": embedding, "SPACE": space})[0]
    np.testing.assert_allclose(scores[:, 0], embedding @ [1, 2, 3], rtol=1e-5)


def test_one_bad_file_prevents_all_placements(repository, sources):
    order = Order(detection=sources.detection, embedding=sources.detection)
    with pytest.raises(WeightsError, match="not an embedding network"):
        import_weights(order, repository)
    assert all_versions(repository) == [[], [], []]


def test_no_file_is_refused(repository):
    with pytest.raises(WeightsError, match="no file given"):
        import_weights(Order(), repository)


def space_of(repository: Path, **order) -> str:
    return import_weights(Order(**order), repository)[-1].space


def test_the_space_of_a_head(repository, sources, tmp_path):
    head = sources.scoring
    with pytest.raises(WeightsError, match="import an embedding first"):
        import_weights(Order(scoring=head), repository)
    first = import_weights(Order(embedding=sources.embedding), repository)[0].id
    other = tiny_sources.save_embedder(tmp_path / "net4.onnx", dimension=4)
    second = import_weights(Order(embedding=other), repository)[0].id
    wide = tiny_sources.save_head(tmp_path / "head4.onnx", [1.0] * 4)
    # in this order: the option, the file, the embedding beside it, the newest version
    assert space_of(repository, scoring=wide) == second
    assert space_of(repository, scoring=wide, space="active") == second
    assert space_of(repository, scoring=head, space="1") == first
    assert space_of(repository, scoring=head, space=first) == first
    assert space_of(repository, scoring=head, embedding=sources.embedding) == first
    marked = tiny_sources.save_head(
        tmp_path / "marked.onnx", [1.0] * 3, metadata={"aurum.space": "0123456789abcdef"}
    )
    assert space_of(repository, scoring=marked) == "0123456789abcdef"
    assert space_of(repository, scoring=marked, space=first) == first
    with pytest.raises(WeightsError, match="scores embeddings of 4 dimensions"):
        import_weights(Order(scoring=wide, space=first), repository)
    with pytest.raises(WeightsError, match=r"model\.json cannot be read"):
        import_weights(Order(scoring=head, space="9"), repository)
    with pytest.raises(WeightsError, match="'xyz' names no space"):
        import_weights(Order(scoring=head, space="xyz"), repository)


def test_a_further_stage_without_an_importer_is_refused(sources):
    with pytest.raises(WeightsError, match=r"stages/age\.py is missing"):
        further.prepare("face_age", load_network(sources.embedding))


def test_each_stage_has_an_option():
    options = [option_for(stage.name) for stage in ONNX_STAGES]
    assert options == ["--detection FILE", "--embedding FILE", "--scoring FILE"]
