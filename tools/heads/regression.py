"""A regression head on unit-length embeddings, and its ONNX graph.

The mean of two regressions that err differently. One is support vector regression with a Gaussian
kernel: on unit vectors `exp(-g |x - v|^2)` is `exp(2 g (x.v - 1))`, so it is two matrix products
and an exponential. The other is an ensemble of small perceptrons. Needs NumPy, scikit-learn and
onnx, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.svm import SVR

from tools.heads.perceptrons import Perceptrons, Settings, fit_perceptrons

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
    perceptrons: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Head:
    """Half `bias + sum_i weight_i exp(2 width (x.point_i - 1))`, half perceptrons; clipped."""

    points: Floats
    """[K,D] unit length."""
    weights: Floats
    """[K]"""
    width: float
    bias: float
    perceptrons: Perceptrons
    """Their answer is in standard deviations from the mean rating."""
    mean: float
    deviation: float

    def predict(self, embeddings: Floats) -> Floats:
        """Ratings [N] of unit-length embeddings [N,D]."""
        kernel = np.exp(2 * self.width * (embeddings @ self.points.T - 1))
        near = kernel @ self.weights + self.bias
        learnt = self.perceptrons.predict(embeddings) * self.deviation + self.mean
        return np.asarray(np.clip((near + learnt) / 2, LOWEST, HIGHEST), np.float32)


def unit(vectors: Floats) -> Floats:
    """Vectors along the last axis at length one."""
    lengths: Floats = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, np.float32)


def fit_regression(
    embeddings: Floats, ratings: NDArray[np.float64], *, recipe: Recipe | None = None
) -> Head:
    """Fits both regressions.

    Args:
        embeddings: [N,D] or [N,V,D] float32, unit length; V views of one face (a mirrored crop,
            say) become V training rows of one rating.
        ratings: [N] mean ratings, 1-10.
        recipe: the settings; the default is what cross-validation chose for the built-in head.

    Raises:
        ValueError: the rows do not match or a rating lies outside 1-10.
    """
    recipe = recipe or Recipe()
    views = unit(embeddings[:, None] if embeddings.ndim == 2 else embeddings)
    if len(views) != len(ratings) or not len(ratings):
        raise ValueError(f"{len(views)} embeddings for {len(ratings)} ratings")
    if not ((ratings >= LOWEST) & (ratings <= HIGHEST)).all():
        raise ValueError("ratings must lie within 1-10")
    kinds, dimension = views.shape[1:]
    rows = views.reshape(-1, dimension)
    machine = SVR(C=recipe.penalty / kinds, gamma=recipe.width, epsilon=recipe.tolerance)
    machine.fit(rows, np.repeat(ratings, kinds))
    mean, deviation = float(ratings.mean()), max(float(ratings.std()), 1e-3)
    return Head(
        points=rows[machine.support_],
        weights=machine.dual_coef_[0].astype(np.float32),
        width=recipe.width,
        bias=float(machine.intercept_[0]),
        perceptrons=fit_perceptrons(
            views, (ratings - mean) / deviation, settings=recipe.perceptrons
        ),
        mean=mean,
        deviation=deviation,
    )


def to_onnx(head: Head) -> onnx.ModelProto:
    """The head as a graph: `embedding` [N,D] float32 unit length -> `score` [N] float32 in 1-10."""
    dimension = head.points.shape[1]
    first, second, third = head.perceptrons.weights
    # Halves and the ratings' scale go into the last weights of either regression.
    constants = {
        "points": head.points.T * np.float32(2 * head.width),
        "offset": np.float32(-2 * head.width),
        "weights": head.weights[:, None] / 2,
        "bias": np.float32((head.bias + head.mean) / 2),
        "first": first,
        "first_bias": head.perceptrons.biases[0],
        "second": second,
        "second_bias": head.perceptrons.biases[1],
        "third": third * np.float32(head.deviation / 2),
        "third_bias": head.perceptrons.biases[2] * np.float32(head.deviation / 2),
        "lowest": np.float32(LOWEST),
        "highest": np.float32(HIGHEST),
        "members": np.array([0], np.int64),
        "column": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["embedding", "points"], ["closeness"]),
        helper.make_node("Add", ["closeness", "offset"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], ["kernel"]),
        helper.make_node("MatMul", ["kernel", "weights"], ["weighted"]),
        helper.make_node("Add", ["weighted", "bias"], ["near"]),
        helper.make_node("Unsqueeze", ["embedding", "members"], ["shared"]),
        *_silu_layer("shared", "first"),
        *_silu_layer("first_out", "second"),
        helper.make_node("MatMul", ["second_out", "third"], ["third_product"]),
        helper.make_node("Add", ["third_product", "third_bias"], ["opinions"]),
        helper.make_node("ReduceMean", ["opinions"], ["learnt"], axes=[0], keepdims=0),
        helper.make_node("Add", ["near", "learnt"], ["rated"]),
        helper.make_node("Clip", ["rated", "lowest", "highest"], ["bounded"]),
        helper.make_node("Squeeze", ["bounded", "column"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rating_head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dimension])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])],
        [
            numpy_helper.from_array(np.array(value, order="C"), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _silu_layer(source: str, name: str) -> list[onnx.NodeProto]:
    """`source @ name + name_bias`, times its own sigmoid, as `name_out`."""
    return [
        helper.make_node("MatMul", [source, name], [f"{name}_product"]),
        helper.make_node("Add", [f"{name}_product", f"{name}_bias"], [f"{name}_linear"]),
        helper.make_node("Sigmoid", [f"{name}_linear"], [f"{name}_gate"]),
        helper.make_node("Mul", [f"{name}_linear", f"{name}_gate"], [f"{name}_out"]),
    ]


def fit_head(
    embeddings: Floats, ratings: NDArray[np.float64], *, recipe: Recipe | None = None
) -> onnx.ModelProto:
    """Fits a head and returns its graph; arguments and errors are those of `fit_regression`."""
    return to_onnx(fit_regression(embeddings, ratings, recipe=recipe))
