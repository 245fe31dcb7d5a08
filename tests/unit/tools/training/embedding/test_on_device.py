"""The code for training on a GPU, run on the CPU: views, JPEG, teachers, time budget."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from gateway.settings import CHECKOUT
from tests.support.views import CLEAN
from tests.support.weights import models_folder, why_no_weights
from tools.evaluation.views import CROP, VIEW, Recipe, make_view
from tools.training import common
from tools.training.common import Budget
from tools.training.embedding import jpeg, on_device
from tools.training.embedding.crops import MARGIN
from tools.training.embedding.network import Shape, Student, export_student
from tools.training.embedding.on_device import DeviceViews
from tools.training.embedding.train import Training, TrainSettings
from tools.training.onnx_network import OnnxNetwork

SMALL = Shape(stem=8, widths=(8, 16, 16), depths=(1, 1, 1), features=16, dimension=8)


def smooth(count: int, side: int = CROP) -> NDArray[np.uint8]:
    """Return pictures [count,side,side,3] with soft shapes and no black."""
    rng = np.random.default_rng(3)
    fields = rng.uniform(20, 235, (count, 7, 7, 3)).astype(np.float32)
    large = [cv2.resize(each, (side, side), interpolation=cv2.INTER_CUBIC) for each in fields]
    return np.clip(np.stack(large), 1, 255).astype(np.uint8)


def planes(pictures: NDArray[np.uint8]) -> Any:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float()


def generator(seed: int = 5) -> Any:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def teacher(tmp_path: Path) -> OnnxNetwork:
    torch.manual_seed(1)
    export_student(Student(SMALL).eval(), tmp_path / "teacher.onnx", mirrored=False)
    return OnnxNetwork(tmp_path / "teacher.onnx")


class TestViews:
    def test_clean_views_are_the_centre_of_the_crop_or_its_mirror_image(self) -> None:
        crops = smooth(4)
        middle = planes(crops)[:, :, MARGIN : MARGIN + VIEW, MARGIN : MARGIN + VIEW]
        for flip, expected in ((0.0, middle), (1.0, middle.flip(3))):
            recipe = replace(CLEAN, flip=flip)
            views = on_device.warp(planes(crops), side=VIEW, recipe=recipe, rng=generator())
            torch.testing.assert_close(views, expected, atol=0.02, rtol=0)

    @pytest.mark.parametrize("flip", [False, True])
    def test_a_turned_enlarged_moved_view_equals_that_of_opencv(
        self, flip: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both get the same four random numbers."""
        drawn = np.array([1.2, -0.9, 0.7, 1.6])
        recipe = replace(CLEAN, rotation=6.0, scale=0.05, shift=1.5, flip=float(flip))

        class Fixed:
            def standard_normal(self, _: int) -> NDArray[np.float64]:
                return drawn

            def random(self, count: int) -> NDArray[np.float64]:
                return np.ones(count)

        values = iter([drawn[:1], drawn[1:2], drawn[2:]])
        monkeypatch.setattr(
            on_device,
            "normal",
            lambda deviation, count, rng, channels=1: (
                torch.from_numpy(next(values)).float().reshape(1, channels, 1, 1) * deviation
            ),
        )
        (crop,) = smooth(1)
        expected = make_view(crop, flip=flip, side=VIEW, recipe=recipe, rng=Fixed())  # type: ignore[arg-type]
        view = on_device.warp(planes(crop[None]), side=VIEW, recipe=recipe, rng=generator())
        found = view[0].permute(1, 2, 0).numpy()
        inside = slice(8, VIEW - 8)  # at the edges both show black, in different ways
        assert np.abs(found - expected)[inside, inside].max() < 2.5

    def test_degraded_views_differ_and_remain_pictures(self) -> None:
        views = planes(smooth(64, VIEW))
        always = Recipe(colour=1, grey=1, shrink=1, blur=1, jpeg=1, cover=1)
        kinds = ("colour", "grey", "shrink", "blur", "jpeg", "cover")
        for kind in (*kinds, "all"):
            off = {} if kind == "all" else dict.fromkeys(set(kinds) - {kind}, 0)
            changed = on_device.degrade(views.clone(), replace(always, **off), generator())
            assert changed.shape == views.shape
            assert changed.min() >= 0
            assert changed.max() <= 255
            assert ((changed - views).abs().amax((1, 2, 3)) >= 1).all(), kind
        untouched = on_device.degrade(views.clone(), CLEAN, generator())
        torch.testing.assert_close(untouched, views)

    def test_only_black_beyond_the_photo_is_filled(self) -> None:
        faces, others = planes(smooth(8)), planes(smooth(16))[8:]
        faces[:, :, :20] = 0
        filled = on_device.fill_backdrops(faces, others, generator())
        torch.testing.assert_close(filled[:, :, 20:], faces[:, :, 20:])
        assert (filled[:, :, :20] > 0).all()

    def test_mixtures_show_both_faces(self) -> None:
        first, second = (
            torch.full((32, 3, CROP, CROP), 10.0),
            torch.full((32, 3, CROP, CROP), 200.0),
        )
        mixed = on_device.mixtures(first, second, generator())
        assert mixed.min() >= 10
        assert mixed.max() <= 200
        assert ((mixed.amax((1, 2, 3)) - mixed.amin((1, 2, 3))) > 60).float().mean() > 0.8

    def test_jpeg_has_the_losses_of_libjpeg(self) -> None:
        rng = np.random.default_rng(1)
        grain = rng.normal(0, 12, (VIEW, VIEW, 3))
        picture = np.clip(smooth(1, VIEW)[0] + grain, 0, 255).astype(np.uint8)
        for quality in (15, 40, 70):
            _, coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            expected = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
            (found,) = jpeg.compress(planes(picture[None]), torch.tensor([float(quality)]))
            apart = np.abs(found.permute(1, 2, 0).numpy() - expected).mean()
            assert apart < 0.25 * np.abs(picture - expected).mean()


class TestBatches:
    def test_targets_are_the_embeddings_of_the_clean_face(self, teacher: OnnxNetwork) -> None:
        crops = smooth(6)
        views = DeviceViews(crops, teacher=teacher, recipe=Recipe(), mixed=0)
        some, targets = views.make(16, side=64, seed=3)
        assert some.shape == (16, 3, 64, 64)
        assert some.min() >= -1
        assert some.max() <= 1
        clean = planes(crops)[:, :, MARGIN : MARGIN + VIEW, MARGIN : MARGIN + VIEW]
        clean = (clean - 127.5) / 127.5
        unit = torch.nn.functional.normalize
        said = unit(unit(teacher(clean)[0]) + unit(teacher(clean.flip(3))[0]))
        nearest = (targets @ said.T).max(1).values
        torch.testing.assert_close(nearest, torch.ones(16), atol=1e-4, rtol=0)

    def test_a_seed_determines_the_batch_and_mixtures_are_new_faces(
        self, teacher: OnnxNetwork
    ) -> None:
        views = DeviceViews(smooth(6), teacher=teacher, recipe=Recipe(), mixed=0.5)
        one, other = views.make(8, side=VIEW, seed=3), views.make(8, side=VIEW, seed=4)
        torch.testing.assert_close(one, views.make(8, side=VIEW, seed=3))
        assert (one[0] - other[0]).abs().max() > 0.1
        known = views.make(64, side=VIEW, seed=9)[1]
        assert len(torch.unique(known.mul(1e4).round(), dim=0)) > 6


def test_an_onnx_network_answers_the_same_in_torch_and_onnxruntime(tmp_path: Path) -> None:
    path = tmp_path / "student.onnx"
    export_student(Student(SMALL).eval(), path, mirrored=False)
    pixels = np.random.default_rng(0).normal(size=(3, 3, VIEW, VIEW)).astype(np.float32)
    (expected,) = ort.InferenceSession(str(path)).run(None, {"input": pixels})
    with torch.no_grad():
        (found,) = OnnxNetwork(path)(torch.from_numpy(pixels))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_the_teachers_answer_the_same_in_torch_and_onnxruntime() -> None:
    models = models_folder()
    if why_no_weights():
        pytest.skip(why_no_weights())
    rng = np.random.default_rng(0)
    for name, side in (
        ("det_500m", 96),
        ("scrfd_2.5g_bnkps", 96),
        ("mobilefacenet_arcface_128", VIEW),
    ):
        pixels = rng.normal(size=(1, 3, side, side)).astype(np.float32)
        session = ort.InferenceSession(str(models / f"{name}.onnx"))
        expected = session.run(None, {session.get_inputs()[0].name: pixels})
        with torch.no_grad():
            found = OnnxNetwork(models / f"{name}.onnx")(torch.from_numpy(pixels))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.numpy(), other, atol=1e-4)


def test_the_error_names_unknown_operators() -> None:
    imported = CHECKOUT / "model_repository" / "face_detection" / "1" / "model.onnx"
    with pytest.raises(ValueError, match="is not supported"):
        OnnxNetwork(imported)


class TestBudget:
    def test_steps_or_minutes_end_a_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
        budget, endless = Budget(10, minutes=2, started=100.0), Budget(10, started=100.0)
        assert budget.done(5) == 0.5
        now[0] += 90
        assert budget.done(5) == 0.75
        assert endless.done(5) == 0.5
        now[0] += 90
        assert budget.done(5) == 1
        assert endless.done(11) == 1

    def test_rates_fall_to_zero_at_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]
        monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
        settings = TrainSettings(steps=10**6, minutes=1, batch=4, sides=((1.0, 64),))
        training = Training(settings, SMALL, folder=tmp_path)
        views, targets = torch.zeros(4, 3, 64, 64), torch.nn.functional.normalize(torch.ones(4, 8))
        rates = []
        while not training.over:
            training.learn(views, targets)
            rates.append(training.optimisers[0].param_groups[0]["lr"])
            now[0] += 6
        assert len(rates) == 10
        assert max(rates) > 0.9 * settings.muon_rate
        assert rates[-1] < 0.15 * settings.muon_rate
