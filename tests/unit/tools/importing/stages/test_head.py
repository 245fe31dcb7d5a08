import numpy as np
import onnxruntime
import pytest

from tests.support import tiny_sources
from tools.errors import WeightsError
from tools.importing.network import load_network
from tools.importing.stages import head

SPACE, FOREIGN = -77, 12
WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)


def prepare(tmp_path, *, space=SPACE, dimension=None, **options):
    path = tiny_sources.save_head(tmp_path / "head.onnx", WEIGHTS, **options)
    return head.prepare(load_network(path), space=space, dimension=dimension)


def run(graph: bytes, embeddings, spaces) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = {
        "EMBEDDING": np.asarray(embeddings, np.float32),
        "SPACE": np.asarray(spaces, np.int64).reshape(-1, 1),
    }
    return session.run(["SCORE", "HEAD"], inputs)


@pytest.mark.parametrize(
    "options", [{}, {"column": False}, {"batch": 1}, {"column": False, "batch": 1}]
)
def test_rows_of_its_space_are_scored_and_others_are_nan(tmp_path, options):
    prepared = prepare(tmp_path, **options)
    embeddings = np.random.default_rng(0).normal(size=(4, 3))
    scores, ids = run(prepared.graph, embeddings, [SPACE, FOREIGN, SPACE, FOREIGN])
    np.testing.assert_allclose(scores[[0, 2], 0], embeddings[[0, 2]] @ WEIGHTS, rtol=1e-5)
    assert np.isnan(scores[[1, 3], 0]).all()
    assert ids.tolist() == [[prepared.identity]] * 4


@pytest.mark.parametrize("width", [1, 2, 4, 512])
def test_embeddings_of_another_width_are_nan_not_an_error(tmp_path, width):
    scores, _ = run(prepare(tmp_path).graph, np.ones((2, width)), [FOREIGN, FOREIGN])
    assert scores.shape == (2, 1)
    assert np.isnan(scores).all()


def test_the_id_depends_on_file_and_space(tmp_path):
    first = prepare(tmp_path)
    assert prepare(tmp_path).identity == first.identity
    assert prepare(tmp_path, space=FOREIGN).identity != first.identity
    assert prepare(tmp_path, metadata={"note": "x"}).identity != first.identity


def test_a_head_for_another_width_than_its_space_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"scores embeddings of 3 dimensions; .* have 128"):
        prepare(tmp_path, dimension=128)


def test_a_head_that_gives_nan_is_refused(tmp_path):
    path = tiny_sources.save_head(tmp_path / "head.onnx", np.array([1, np.nan]))
    with pytest.raises(WeightsError, match="SCORE holds values that are not finite"):
        head.prepare(load_network(path), space=SPACE, dimension=None)


def test_an_embedder_is_refused_as_a_head(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match=r"not a scoring head: it takes \[\?,3,112,112\]"):
        head.prepare(load_network(path), space=SPACE, dimension=None)
