"""The scoring head: what it fits is what its graph answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

pytest.importorskip("sklearn", reason="heads need scikit-learn (extra `heads`)")

from tools.heads.perceptrons import Settings, fit_perceptrons
from tools.heads.regression import Recipe, fit_head, fit_regression, to_onnx, unit

FEW = Settings(members=2, hidden=16, epochs=20, batch=64)


def taught(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [N,16] and ratings that a smooth function of them gives."""
    vectors = unit(np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32))
    return vectors, 5.5 + 6 * np.tanh(1.5 * vectors[:, 0]) * vectors[:, 1] + 3 * vectors[:, 2]


def answer(model: object, vectors: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString())
    (scores,) = session.run(["score"], {"embedding": vectors})
    return scores


def test_the_graph_answers_what_the_expansion_predicts() -> None:
    vectors, ratings = taught(300, 1)
    head = fit_regression(vectors, ratings)
    asked, _ = taught(50, 2)
    scores = answer(to_onnx(head), asked)
    assert scores.shape == (50,)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, head.predict(asked), atol=1e-4)


def test_the_head_learns_a_function_of_the_embedding() -> None:
    vectors, ratings = taught(800, 3)
    asked, truth = taught(200, 4)
    recipe = Recipe(penalty=20, perceptrons=Settings(members=2, hidden=32, epochs=150))
    scores = answer(fit_head(vectors, ratings, recipe=recipe), asked)
    assert np.corrcoef(scores, truth)[0, 1] > 0.9


def test_perceptrons_alone_learn_it_too() -> None:
    vectors, ratings = taught(800, 3)
    asked, truth = taught(200, 4)
    settings = Settings(members=2, hidden=32, epochs=150)
    learnt = fit_perceptrons(vectors[:, None], (ratings - 5.5) / 2, settings=settings)
    assert np.corrcoef(learnt.predict(asked), truth)[0, 1] > 0.85


def test_scores_stay_within_the_ratings_range() -> None:
    vectors, ratings = taught(100, 5)
    head = fit_regression(vectors, ratings, recipe=Recipe(perceptrons=FEW))
    for bias, bound in ((60.0, 10.0), (-60.0, 1.0)):
        assert (answer(to_onnx(replace(head, bias=bias)), vectors) == bound).all()


def test_views_of_a_face_share_its_rating() -> None:
    vectors, ratings = taught(120, 6)
    noise = np.random.default_rng(7).normal(0, 0.05, vectors.shape).astype(np.float32)
    views = np.stack([vectors, unit(vectors + noise)], 1)
    one, two = fit_regression(vectors, ratings), fit_regression(views, ratings)
    assert len(two.weights) > len(one.weights)
    np.testing.assert_allclose(two.predict(vectors), one.predict(vectors), atol=0.8)


def test_fitting_twice_gives_the_same_bytes() -> None:
    vectors, ratings = taught(100, 8)
    first, second = (fit_head(vectors, ratings).SerializeToString() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("ratings", "message"),
    [(np.full(9, 5.0), "10 embeddings for 9"), (np.full(10, 11.0), "within 1-10")],
)
def test_rows_that_do_not_fit_are_refused(ratings: np.ndarray, message: str) -> None:
    vectors, _ = taught(10, 9)
    with pytest.raises(ValueError, match=message):
        fit_head(vectors, ratings)
