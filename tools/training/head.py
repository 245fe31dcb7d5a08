"""A regression head on unit-length embeddings, and its ONNX graph.

Support vector regression with a Gaussian kernel: on unit vectors `exp(-g |x - v|^2)` is
`exp(2 g (x.v - 1))`, so the whole head is two matrix products and an exponential. Needs NumPy,
scikit-learn and onnx, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.svm import SVR

LOWEST, HIGHEST = 1.0, 10.0
"""Bounds of a rating."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of the regression, chosen by cross-validation on training rows alone."""

    penalty: float = 2.0
    """The SVR's C."""
    width: float = 1.0
    """The kernel's gamma, per squared unit of embedding distance."""
    tolerance: float = 0.1
    """The SVR's epsilon, in rating points."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """`bias + sum_i weight_i exp(2 width (x.point_i - 1))`, clipped to the ratings' range."""

    points: Floats
    """[K,D] unit length."""
    weights: Floats
    """[K]"""
    width: float
    bias: float

    def predict(self, embeddings: Floats) -> Floats:
        """Ratings [N] of unit-length embeddings [N,D]."""
        kernel = np.exp(2 * self.width * (embeddings @ self.points.T - 1))
        rated = kernel @ self.weights + self.bias
        return np.clip(rated, LOWEST, HIGHEST).astype(np.float32)


def unit(vectors: Floats) -> Floats:
    """Vectors along the last axis at length one."""
    lengths: Floats = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


def fit_expansion(
    embeddings: Floats, ratings: NDArray[np.float64], *, recipe: Recipe | None = None
) -> Expansion:
    """Fits the regression.

    Args:
        embeddings: [N,D] or [N,V,D] float32, unit length; V views of one face (a mirrored crop,
        say)
            become V training rows of one rating.
        ratings: [N] mean ratings, 1-10.
        recipe: the settings; the default is what cross-validation chose for the built-in head.

    Raises:
        ValueError: the rows do not match or a rating lies outside 1-10.
    """
    recipe = recipe or Recipe()
    views = embeddings[:, None] if embeddings.ndim == 2 else embeddings
    if len(views) != len(ratings) or not len(ratings):
        raise ValueError(f"{len(views)} embeddings for {len(ratings)} ratings")
    if not ((ratings >= LOWEST) & (ratings <= HIGHEST)).all():
        raise ValueError("ratings must lie within 1-10")
    rows = unit(views.reshape(-1, views.shape[-1]))
    machine = SVR(
        C=recipe.penalty / views.shape[1], gamma=recipe.width, epsilon=recipe.tolerance
    ).fit(rows, np.repeat(ratings, views.shape[1]))
    return Expansion(
        points=rows[machine.support_],
        weights=machine.dual_coef_[0].astype(np.float32),
        width=recipe.width,
        bias=float(machine.intercept_[0]),
    )


def to_onnx(head: Expansion) -> onnx.ModelProto:
    """The head as a graph: `embedding` [N,D] float32 unit length -> `score` [N] float32 in 1-10."""
    dimension = head.points.shape[1]
    constants = {
        "points": (head.points.T * (2 * head.width)).astype(np.float32),
        "offset": np.float32(-2 * head.width),
        "weights": head.weights.astype(np.float32)[:, None],
        "bias": np.float32(head.bias),
        "lowest": np.float32(LOWEST),
        "highest": np.float32(HIGHEST),
        "column": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["embedding", "points"], ["closeness"]),
        helper.make_node("Add", ["closeness", "offset"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], ["kernel"]),
        helper.make_node("MatMul", ["kernel", "weights"], ["weighted"]),
        helper.make_node("Add", ["weighted", "bias"], ["rated"]),
        helper.make_node("Clip", ["rated", "lowest", "highest"], ["bounded"]),
        helper.make_node("Squeeze", ["bounded", "column"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rating_head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dimension])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def fit_head(
    embeddings: Floats, ratings: NDArray[np.float64], *, recipe: Recipe | None = None
) -> onnx.ModelProto:
    """Fits a head and returns its graph; arguments and errors are those of `fit_expansion`."""
    return to_onnx(fit_expansion(embeddings, ratings, recipe=recipe))
