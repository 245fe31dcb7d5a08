"""Mixtures of two faces, and what a teacher says of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tools.evaluation.views import CROP
from tools.training.embedding import faces as splitting
from tools.training.embedding.crops import embed, open_session
from tools.training.embedding.faces import load_faces
from tools.training.embedding.mixing import mixture, prepare_mixed

COUNT = 24


def write_teacher(path: Path) -> Path:
    """Write a network that answers the mean colours of each half of a picture."""
    nodes = [
        helper.make_node(
            "AveragePool", ["x"], ["means"], kernel_shape=[112, 56], strides=[112, 56]
        ),
        helper.make_node("Flatten", ["means"], ["y"]),
    ]
    shapes = ("x", ["n", 3, 112, 112]), ("y", ["n", 6])
    given, answer = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes
    )
    graph = helper.make_graph(nodes, "teacher", [given], [answer])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def write_crops(cache: Path) -> np.ndarray:
    """Write crops of one colour each, whose teacher takes no two for one person."""
    crops = np.empty((COUNT, CROP, CROP, 3), np.uint8)
    crops[:] = np.random.default_rng(0).integers(1, 255, (COUNT, 1, 1, 3))
    np.save(cache / "crops.npy", crops)
    np.save(cache / "teacher.npy", np.eye(COUNT, dtype=np.float32)[:, None].repeat(2, 1))
    photo = {"source": "utkface", "split": ""}
    (cache / "photos.json").write_text(json.dumps({"photos": [photo] * COUNT, "missed": 0}))
    return crops


def test_a_mixture_shows_two_of_the_given_faces_and_comes_again(tmp_path: Path) -> None:
    crops = write_crops(tmp_path) // 2
    rows = np.arange(0, COUNT, 2)
    crops[1::2] = 255
    seen = set()
    for index in range(30):
        mixed = mixture(crops, rows, index)
        np.testing.assert_array_equal(mixed, mixture(crops, rows, index))
        assert mixed.max() < 255 // 2 + 2
        corners = mixed[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
        colours = crops[rows, 0, 0].astype(int)
        distance = np.abs(corners[:, None] - colours).max(-1)
        near = np.where(distance.min(1) <= 8, rows[distance.argmin(1)], -1)
        seen |= set(near.tolist()) - {-1}
    assert len(seen) > len(rows) / 2
    assert (mixture(crops, rows, 0) != mixture(crops, rows, 1)).any()


def test_some_mixtures_have_an_edge_and_some_show_both_everywhere() -> None:
    crops = np.zeros((2, CROP, CROP, 3), np.uint8)
    crops[1] = 200
    # both faces' share in what is neither one nor the other
    between = [
        ((mixed > 10) & (mixed < 190)).mean()
        for mixed in (mixture(crops, np.arange(2), index) for index in range(60))
    ]
    assert min(between) < 0.1
    assert max(between) > 0.9


def test_the_teacher_is_asked_about_mixtures_of_training_faces(tmp_path: Path) -> None:
    crops = write_crops(tmp_path)
    teacher = write_teacher(tmp_path / "teacher.onnx")
    assert not len(load_faces(tmp_path).mixed)
    prepare_mixed(cache=tmp_path, teacher=teacher, count=7, processes=2)
    faces = load_faces(tmp_path)
    assert len(faces.train) < COUNT, splitting.HELD_OUT
    made = np.stack([mixture(crops, faces.train, index) for index in range(7)])
    session = open_session(teacher)
    expected = np.stack([embed(session, made), embed(session, made[:, :, ::-1])], 1)
    np.testing.assert_allclose(faces.mixed, expected, atol=1e-6)
    assert np.abs(faces.mixed[:, 0] - faces.mixed[:, 1]).max() > 0.01
    assert sorted(path.name for path in tmp_path.glob("mixed*")) == ["mixed.npy"]
