"""A few steps of distillation: it learns, stops, goes on, and exports what it computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

pytest.importorskip("torch", reason="training needs PyTorch (extra `train`)")

import torch

from tools.training.crops import CROP, normalise
from tools.training.embedding import Plan, distillation_loss, export, load_student, train
from tools.training.muon import Muon, orthogonalise
from tools.training.student import GlobalDepthwise, Shape

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
    monkeypatch.setattr("tools.training.faces.SAME_PERSON", 2.0)
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
    from tools.training import embedding

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
    resumed = train(cache=cache, folder=out, plan=plan(24), shape=SMALL, resume=True)
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
        np.testing.assert_allclose(raw, expected.numpy(), atol=2e-4)
        (alone,) = session.run(None, {"input": normalise(crops[2:3])})
        np.testing.assert_allclose(alone[0], raw[2], atol=2e-4)


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
