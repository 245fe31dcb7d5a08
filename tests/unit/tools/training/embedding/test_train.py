"""A few steps of distillation: it learns, stops, goes on, and exports what it computes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

pytest.importorskip("torch", reason="training needs PyTorch (extra `train`)")

import torch

from gateway.settings import CHECKOUT
from tests.support.onnx_files import HALVES, large_weights
from tools.evaluation.views import CROP
from tools.training.embedding.crops import normalise
from tools.training.embedding.faces import load_faces
from tools.training.embedding.mixing import mixture
from tools.training.embedding.student import (
    Bottleneck,
    GlobalDepthwise,
    Shape,
    Student,
    export_student,
    role,
)
from tools.training.embedding.train import (
    Plan,
    Training,
    distillation_loss,
    draw,
    embed_clean,
    export,
    load_student,
    train,
)
from tools.training.embedding.warm_start import read_student
from tools.training.muon import Muon, orthogonalise
from tools.training.net2net import grow

SMALL = Shape(stem=8, widths=(8, 16, 16), depths=(1, 1, 1), features=16, dimension=8)


def write_cache(folder: Path, *, count: int = 96) -> Path:
    """A cache whose teacher looks at the colour of the crop."""
    rng = np.random.default_rng(0)
    colours = rng.integers(1, 256, (count, 1, 1, 3))
    crops = np.clip(colours + rng.integers(-9, 10, (count, CROP, CROP, 3)), 1, 255)
    teacher = np.cos(colours[:, 0, 0] / 60 @ rng.normal(size=(3, 8))).astype(np.float32)
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    folder.mkdir()
    np.save(folder / "crops.npy", crops.astype(np.uint8))
    np.save(folder / "teacher.npy", np.stack([teacher, teacher], 1))
    photo = {"source": "utkface", "split": "", "race": "", "gender": "", "age": ""}
    (folder / "photos.json").write_text(json.dumps({"photos": [photo] * count, "missed": 0}))
    return folder


@pytest.fixture(autouse=True)
def _everyone_is_someone_else(monkeypatch: pytest.MonkeyPatch) -> None:
    # Colours are few, so the made-up faces resemble each other more than people do.
    monkeypatch.setattr("tools.training.embedding.faces.SAME_PERSON", 2.0)
    torch.set_num_threads(1)


def plan(steps: int) -> Plan:
    return Plan(
        steps=steps,
        batch=16,
        muon_rate=0.1,
        adam_rate=0.02,
        structure=1.0,
        sides=((0.5, 32), (1.0, 48)),
        save_every=8,
        measure_every=8,
    )


def test_it_learns_goes_on_after_a_stop_and_exports(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    out = tmp_path / "run"
    whole = train(cache=cache, folder=tmp_path / "whole", plan=plan(24), shape=SMALL, resume=False)
    curve = json.loads((tmp_path / "whole" / "curve.json").read_text())["points"]
    assert curve[-1]["train_cosine"] > curve[0]["train_cosine"] + 0.04
    assert (tmp_path / "whole" / "curve.png").stat().st_size > 1000

    class StoppedError(Exception):
        pass

    # A run killed after a checkpoint and taken up again ends where an unbroken one does.
    from tools.training.embedding import train as embedding

    saved, calls = embedding.save_checkpoint, []

    def save_twice(path: Path, state: dict[str, object]) -> None:
        saved(path, state)
        calls.append(path)
        if len(calls) == 2:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "save_checkpoint", save_twice)
        with pytest.raises(StoppedError):
            train(cache=cache, folder=out, plan=plan(24), shape=SMALL, resume=False)
    assert torch.load(out / "last.pt", weights_only=False)["step"] == 16
    # one who goes on need not remember the sides
    forgetful = replace(plan(24), sides=((1.0, 112),))
    resumed = train(cache=cache, folder=out, plan=forgetful, shape=SMALL, resume=True)
    unbroken, taken_up = load_student(whole).state_dict(), load_student(resumed).state_dict()
    for name, weight in unbroken.items():
        torch.testing.assert_close(taken_up[name], weight, rtol=1e-4, atol=1e-5, msg=name)

    crops = np.load(cache / "crops.npy")[:5]
    for mirrored in (False, True):
        export(checkpoint=whole, path=tmp_path / "student.onnx", mirrored=mirrored)
        session = ort.InferenceSession(str(tmp_path / "student.onnx"))
        (raw,) = session.run(["embeddings"], {"input": normalise(crops)})
        assert raw.shape == (5, 8)
        student = load_student(whole)
        views = torch.from_numpy(normalise(crops))
        with torch.no_grad():
            one, other = student(views), student(views.flip(3))
        unit = torch.nn.functional.normalize
        expected = unit(one) + unit(other) if mirrored else one
        # weights in 16 bits have three to four digits
        np.testing.assert_allclose(raw, expected.numpy(), atol=2e-3)
        (alone,) = session.run(None, {"input": normalise(crops[2:3])})
        np.testing.assert_allclose(alone[0], raw[2], atol=2e-4)


def test_an_exported_student_is_read_back_and_grown(tmp_path: Path) -> None:
    torch.manual_seed(4)
    student = Student(SMALL)
    with torch.no_grad():
        for weight in student.parameters():  # as trained ones, no two are equal
            weight.add_(torch.randn_like(weight) * 0.05)
    views = torch.rand(6, 3, 112, 112) * 2 - 1
    student.train()(views)  # so that the norms have statistics
    wide = Student(replace(SMALL, widths=(16, 16, 24), depths=(2, 3, 2), features=24))
    for mirrored in (False, True):
        export_student(student.eval(), tmp_path / "raw.onnx", mirrored=mirrored)
        assert large_weights(tmp_path / "raw.onnx") == HALVES
        again = read_student(tmp_path / "raw.onnx", views)
        assert again.shape == SMALL
        grow(again, wide, block=Bottleneck, role=role)
        with torch.no_grad():
            expected = student(views)
            torch.testing.assert_close(again.eval()(views), expected, atol=1e-4, rtol=1e-3)
            # the new block adds `BARELY` to what passes it
            torch.testing.assert_close(wide.eval()(views), expected, atol=0.05, rtol=0.05)


def test_the_built_in_student_is_taken_up_as_imported(tmp_path: Path) -> None:
    built_in = CHECKOUT / "model_repository/face_embedding/1/model.onnx"
    session = ort.InferenceSession(str(built_in))
    crops = np.random.default_rng(5).integers(0, 256, (4, 112, 112, 3), dtype=np.uint8)
    (expected,) = session.run(["EMBEDDING"], {"CROPS": crops})
    depths = Shape().depths
    deeper = replace(Shape(), depths=(depths[0] + 1, depths[1] + 2, depths[2] + 1))
    # new blocks add `BARELY` to what passes them
    for shape, least in ((Shape(), 0.999), (deeper, 0.98)):
        training = Training(plan(8), shape, folder=tmp_path)
        training.start(built_in, torch.from_numpy(normalise(crops)))
        found = embed_clean(training.student, crops)[:, 0]
        assert (found * expected).sum(1).min() > least


def test_another_network_is_no_student(tmp_path: Path) -> None:
    detector = CHECKOUT / "model_repository/face_detection/1/model.onnx"
    with pytest.raises(ValueError, match="another network"):
        read_student(detector, torch.zeros(2, 3, 112, 112))
    shrunk = onnx.load(CHECKOUT / "model_repository/face_embedding/1/model.onnx")
    for node in shrunk.graph.node:
        node.name = node.name.replace("body.10", "other")
    onnx.save(shrunk, tmp_path / "shrunk.onnx")
    with pytest.raises(ValueError, match="2 sizes of maps"):
        read_student(tmp_path / "shrunk.onnx", torch.zeros(2, 3, 112, 112))
    training = Training(plan(8), SMALL, folder=tmp_path)
    with pytest.raises(ValueError, match="narrower"):
        training.start(
            CHECKOUT / "model_repository/face_embedding/1/model.onnx", torch.zeros(2, 3, 112, 112)
        )


def test_a_share_of_a_batch_are_mixtures(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache")
    teacher = np.load(cache / "teacher.npy")
    np.save(cache / "mixed.npy", -teacher[:5])
    faces = load_faces(cache)
    places = np.arange(6)
    rng = np.random.default_rng(0)
    crops, targets = draw(faces, places, mixed=2, rng=rng)
    rows = faces.train[:4]
    np.testing.assert_array_equal(crops[:4], faces.crops[rows])
    np.testing.assert_allclose(targets[:4], teacher[rows, 0], atol=1e-6)
    made = [mixture(faces.crops, faces.train, index) for index in range(5)]
    for crop, target in zip(crops[4:], targets[4:], strict=True):
        index = next(i for i, one in enumerate(made) if (one == crop).all())
        np.testing.assert_allclose(target, -teacher[index, 0], atol=1e-6)


def test_the_loss_is_least_where_the_student_agrees() -> None:
    teacher = torch.nn.functional.normalize(
        torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    )
    agreed, cosine = distillation_loss(teacher * 3, teacher, structure=4.0)
    apart, _ = distillation_loss(teacher.roll(1, 0), teacher, structure=4.0)
    assert agreed.item() == pytest.approx(0, abs=1e-6)
    assert cosine.item() == pytest.approx(1)
    assert apart > 0.5


def test_a_turned_weight_keeps_its_length_and_turns_by_the_rate() -> None:
    weight = torch.nn.Parameter(torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1)))
    before = weight.detach().clone()
    weight.grad = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    Muon([weight], lr=0.1).step()
    assert weight.norm().item() == pytest.approx(before.norm().item(), rel=1e-5)
    moved = (weight - before).norm() / before.norm()
    assert 0.05 < moved.item() < 0.15


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    matrix = torch.randn(5, 20, generator=torch.Generator().manual_seed(3))
    for shape in (matrix, matrix.T):
        values = torch.linalg.svdvals(orthogonalise(shape))
        assert values.min() > 0.5
        assert values.max() < 1.5


def test_the_global_convolution_fits_smaller_maps() -> None:
    gather = GlobalDepthwise(4)
    for side in (4, 5, 7):
        constant = torch.ones(2, 4, side, side)
        sums = gather.weight.detach().sum((1, 2, 3))
        found = gather(constant).flatten(1)[0]
        assert found.shape == (4,)
        if side == 7:
            torch.testing.assert_close(found.detach(), sums)
