"""The detector's training: labels follow their pixels, targets and decoding undo each other."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.detections import detections
from tools.evaluation.held_out import hash_share
from tools.training.detection.compose import Canvas, Composer
from tools.training.detection.data import FacePhotos, Scene, is_clean, load_scenes, save_scenes
from tools.training.detection.sample import mirrored, move_box, move_points, similarity
from tools.training.detection.scrfd import (
    ByteArray,
    FloatArray,
    RawDetector,
    decode,
    iou_matrix,
    suppress,
)
from tools.training.detection.targets import assign, make_rows

SIZE = 256
FLIPPED = [1, 0, 2, 4, 3]  # landmarks after a flip
DOTS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]], np.uint8)


def marked_photos() -> FacePhotos:
    """Photos whose landmarks are discs of five colours on grey, the box around them."""
    middles = np.array([[40, 45], [80, 45], [60, 62], [44, 85], [76, 85]], np.float32)
    photo = np.full((128, 120, 3), 128, np.uint8)
    for (x, y), colour in zip(middles, DOTS, strict=True):
        cv2.circle(photo, (int(x), int(y)), 7, colour.tolist(), -1)
    points = middles + 0.5  # the middle of a pixel
    count = 4
    size = photo.size
    return FacePhotos(
        pixels=np.tile(photo.reshape(-1), count),
        starts=np.arange(count + 1, dtype=np.int64) * size,
        shapes=np.tile(np.array([[128, 120]], np.int32), (count, 1)),
        boxes=np.tile(np.array([[25, 20, 95, 105]], np.float32), (count, 1)),
        landmarks=np.tile(points, (count, 1, 1)),
        scores=np.ones(count, np.float32),
        source=np.zeros(count, np.int8),
        held_out=np.array([False, False, False, True]),
    )


def assert_on_their_dots(image: ByteArray, points: FloatArray, order: list[int]) -> None:
    """Each landmark must lie in the middle of the disc of its colour, to a third of a pixel."""
    for point, colour in zip(points, DOTS[order].astype(int), strict=True):
        rows, columns = np.nonzero(np.abs(image - colour).sum(axis=2) < 90)
        middle = np.array([columns.mean(), rows.mean()]) + 0.5
        np.testing.assert_allclose(point, middle, atol=0.33)


def scenes() -> list[Scene]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 240, 3)).astype(np.uint8)
    people = detections([[50, 40, 90, 90], [150, 20, 180, 60]], [0.9, 0.4])
    empty = detections([[5, 5, 30, 30]], [0.2])
    return [
        Scene(name="people", image=image, seen=people, held_out=False),
        Scene(name="empty", image=image, seen=empty, held_out=False),
        Scene(name="held", image=image, seen=empty, held_out=True),
    ]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("scale", "degrees"), [(0.8, 0.0), (1.3, 30.0), (1.3, -17.0), (3.0, 0.0)])
def test_labels_follow_the_pixels_of_a_pasted_photo(
    scale: float, degrees: float, flip: bool
) -> None:
    photos = marked_photos()
    canvas = Canvas(np.zeros((SIZE, SIZE, 3), np.uint8))
    linear = similarity(scale=scale, degrees=degrees, flip=flip)
    offset = np.array([128, 128], np.float32) - linear @ np.array([60, 62], np.float32)
    matrix = np.hstack([linear, offset[:, None]]).astype(np.float32)
    mask = np.ones((128, 120), np.float32)
    canvas.paste_face(
        photos.photo(0), mask, matrix, box=photos.boxes[0], points=photos.landmarks[0]
    )
    sample = canvas.finish()
    assert len(sample.boxes) == 1
    assert_on_their_dots(sample.image, sample.points[0], FLIPPED if flip else [0, 1, 2, 3, 4])
    # left eye left of right eye as seen in the image, also after a flip
    assert sample.points[0, 0, 0] < sample.points[0, 1, 0]
    low, high = sample.points[0].min(axis=0), sample.points[0].max(axis=0)
    assert np.all(low >= sample.boxes[0, :2])
    assert np.all(high <= sample.boxes[0, 2:])


def test_a_turned_box_bounds_the_turned_ellipse() -> None:
    linear = similarity(scale=1.0, degrees=90.0, flip=False)
    box = np.array([-10, -20, 10, 20], np.float32)
    moved = move_box(box, linear, np.array([100, 50], np.float32))
    np.testing.assert_allclose(moved, [80, 40, 120, 60], atol=1e-4)
    circle = np.array([-10, -10, 10, 10], np.float32)
    turned = move_box(
        circle, similarity(scale=2.0, degrees=33.0, flip=True), np.zeros(2, np.float32)
    )
    np.testing.assert_allclose(turned, [-20, -20, 20, 20], atol=1e-4)


def test_a_flip_swaps_eyes_and_mouth_corners() -> None:
    points = np.arange(10, dtype=np.float32).reshape(5, 2)
    flipped = move_points(
        points, similarity(scale=1, degrees=0, flip=True), np.zeros(2, np.float32)
    )
    np.testing.assert_array_equal(flipped[:, 0], -points[[1, 0, 2, 4, 3], 0])
    np.testing.assert_array_equal(flipped[:, 1], points[[1, 0, 2, 4, 3], 1])


def test_a_covered_face_is_no_label() -> None:
    photos = marked_photos()
    canvas = Canvas(np.zeros((SIZE, SIZE, 3), np.uint8))
    mask = np.ones((128, 120), np.float32)
    for shift in (0.0, 0.0, 125.0):
        matrix = np.array([[1, 0, shift], [0, 1, shift]], np.float32)
        canvas.paste_face(
            photos.photo(0), mask, matrix, box=photos.boxes[0], points=photos.landmarks[0]
        )
    # the second covers the first wholly
    assert len(canvas.finish().boxes) == 2
    most = np.array([[1, 0, 50.0], [0, 1, 0]], np.float32)
    canvas.paste_distractor(np.zeros((128, 120, 3), np.uint8), mask, most)
    sample = canvas.finish()
    assert len(sample.boxes) == 1
    np.testing.assert_allclose(sample.ignored, photos.boxes[:1])


def test_a_mirrored_sample_keeps_labels_on_their_pixels() -> None:
    photos = marked_photos()
    canvas = Canvas(np.zeros((SIZE, SIZE, 3), np.uint8))
    matrix = np.array([[1, 0, 30], [0, 1, 70]], np.float32)
    mask = np.ones((128, 120), np.float32)
    canvas.paste_face(
        photos.photo(0), mask, matrix, box=photos.boxes[0], points=photos.landmarks[0]
    )
    flipped = mirrored(canvas.finish())
    assert_on_their_dots(flipped.image, flipped.points[0], FLIPPED)
    np.testing.assert_allclose(flipped.boxes[0], [256 - 125, 90, 256 - 55, 175])


def test_samples_are_reproducible_and_within_bounds() -> None:
    composer = Composer([marked_photos()], scenes(), held_out=False)
    first = [composer.sample(np.random.default_rng(seed), SIZE) for seed in range(30)]
    again = [composer.sample(np.random.default_rng(seed), SIZE) for seed in range(30)]
    assert sum(len(sample.boxes) for sample in first) > 20
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.boxes, two.boxes)
        assert one.image.shape == (SIZE, SIZE, 3)
        assert one.image.dtype == np.uint8
        assert one.points.shape == (len(one.boxes), 5, 2)
        # at least the middle of every labelled face is in the picture
        overlap = np.minimum(one.boxes[:, 2:], SIZE) - np.maximum(one.boxes[:, :2], 0)
        assert np.all(overlap > 0)


def test_targets_decode_back_to_the_labels() -> None:
    rows = make_rows(SIZE)
    boxes = np.array([[20, 30, 36, 50], [100, 90, 180, 200]], np.float32)
    points = np.random.default_rng(1).uniform(0, SIZE, (2, 5, 2)).astype(np.float32)
    targets = assign(rows, boxes, points, np.zeros((0, 4), np.float32))
    total = len(rows.centres)
    score = np.zeros((total, 1), np.float32)
    score[targets.rows] = 1
    assert np.isnan(targets.scores).all()
    raw_boxes, raw_points = np.zeros((total, 4), np.float32), np.zeros((total, 10), np.float32)
    raw_boxes[targets.rows] = targets.boxes
    raw_points[targets.rows] = targets.points.reshape(-1, 10)
    cuts = np.cumsum([(SIZE // stride) ** 2 * 2 for stride in (8, 16)])
    outputs = [part for array in (score, raw_boxes, raw_points) for part in np.split(array, cuts)]
    found = decode(outputs, height=SIZE, width=SIZE, threshold=0.5)
    assert len(found) == len(targets.rows)
    overlaps = iou_matrix(boxes, found.boxes)
    np.testing.assert_allclose(overlaps.max(axis=0), 1, atol=1e-4)
    for box, landmarks in zip(found.boxes, found.landmarks, strict=True):
        owner = int(np.argmin(np.abs(boxes - box).sum(axis=1)))
        np.testing.assert_allclose(landmarks, points[owner], atol=1e-3)
    assert len(suppress(found)) == 2


@pytest.mark.parametrize(("size", "stride"), [(16, 8), (32, 8), (64, 16), (128, 16), (256, 32)])
def test_a_face_is_answered_at_the_stride_of_its_size(size: int, stride: int) -> None:
    rows = make_rows(SIZE)
    box = np.array([[128 - size / 2, 128 - size / 2, 128 + size / 2, 128 + size / 2]], np.float32)
    targets = assign(rows, box, np.zeros((1, 5, 2), np.float32), np.zeros((0, 4), np.float32))
    assert len(targets.rows) > 0
    assert set(rows.strides[targets.rows]) == {stride}
    assert set(rows.bases[targets.rows]) == {size}


def test_ignored_regions_are_not_judged() -> None:
    rows = make_rows(SIZE)
    none = np.zeros((0, 5, 2), np.float32)
    ignored = np.array([[60, 60, 120, 120]], np.float32)
    targets = assign(rows, np.zeros((0, 4), np.float32), none, ignored)
    inside = np.all((rows.centres > 60) & (rows.centres < 120), axis=1)
    assert inside.any()
    np.testing.assert_array_equal(targets.weight, np.where(inside, 0, 1))


def test_only_clear_labels_are_kept() -> None:
    shape = (100, 100)
    assert is_clean(detections([[10, 10, 60, 60]], [0.8]), shape) == 0
    assert is_clean(detections([], []), shape) is None
    assert is_clean(detections([[10, 10, 60, 60]], [0.5]), shape) is None
    twins = detections([[0, 0, 40, 40], [50, 50, 90, 90]], [0.8, 0.8])
    assert is_clean(twins, shape) is None
    assert is_clean(detections([[1, 1, 6, 6]], [0.9]), shape) is None


def test_scenes_survive_the_cache(tmp_path: Path) -> None:
    save_scenes(scenes(), tmp_path / "scenes.npz")
    people, empty, held = load_scenes(tmp_path / "scenes.npz")
    assert (len(people.faces), len(people.doubtful), people.face_free) == (1, 1, False)
    assert (empty.face_free, held.face_free, held.held_out) == (True, True, True)
    np.testing.assert_array_equal(people.image, scenes()[0].image)


def test_the_split_depends_on_the_name_alone() -> None:
    shares = np.array([hash_share(f"photo/{index}.jpg") for index in range(2000)])
    assert 0.04 < (shares < 0.05).mean() < 0.06
    assert hash_share("a.jpg") == hash_share("a.jpg")


class TestNetwork:
    """What needs PyTorch."""

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> None:
        torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")
        torch.set_num_threads(1)

    def test_smoke_training_resumes_and_exports(self, tmp_path: Path) -> None:
        import torch

        from tools.training.detection.batches import ComposedBatches
        from tools.training.detection.export import OUTPUTS, export
        from tools.training.detection.net import LiteDetector, NetConfig, flatten
        from tools.training.detection.settings import Side, TrainSettings
        from tools.training.detection.train import Trainer, load_average

        config = NetConfig(stem=8, widths=(8, 8, 8), blocks=(1, 1, 1), neck=8)
        settings = TrainSettings(
            steps=40, warmup=5, workers=0, sides=(Side(96, 3, 1.0),), mosaic=0.0
        )
        composer = Composer([marked_photos()], scenes(), held_out=False)
        torch.manual_seed(0)
        # an untrained teacher, sure of everything: its rows are what is learnt
        export(LiteDetector(config).eval(), tmp_path / "teacher.onnx", shifts=(5.0,) * 6)
        batches = ComposedBatches(
            composer, settings=settings, seed=1, teacher=tmp_path / "teacher.onnx"
        )
        batch = batches.make(np.random.default_rng(0))
        assert batch.images.shape == (3, 3, 96, 96)
        # all rows but some around the labels of near faces; sigmoid(5 - 4.6) and up, or a label's
        assert 0.95 < len(batch.rows) / batch.weight.numel() <= 1
        taught = batch.scores[~batch.scores.isnan()]
        assert 0.5 < taught.min() < taught.max() < 0.9
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(composer, "sample", None)  # nothing but mosaics
            mosaics = ComposedBatches(
                composer,
                settings=replace(settings, mosaic=1.0),
                seed=1,
                teacher=tmp_path / "teacher.onnx",
            )
            assert mosaics.make(np.random.default_rng(0)).images.shape == (3, 3, 96, 96)
        trainer = Trainer(settings, config)
        losses = [trainer.train_batch(batch) for _ in range(40)]
        assert losses[-1].score < losses[0].score  # whose bias is far off and turns slowly
        assert losses[-1].box < 0.5 * losses[0].box
        assert losses[-1].point < 0.5 * losses[0].point
        trainer.save(tmp_path / "checkpoint.pt")
        again = Trainer(settings, config)
        assert again.load(tmp_path / "checkpoint.pt")
        assert again.step == 40

        model, done = load_average(tmp_path / "checkpoint.pt")
        assert done == 40
        shifts = (0.5, -0.4, 0.0, 0.1, -0.5, 0.3)
        export(model, tmp_path / "lite.onnx", shifts=shifts)
        detector = RawDetector(tmp_path / "lite.onnx")

        blob = np.random.default_rng(2).normal(size=(1, 3, 160, 96)).astype(np.float32)
        outputs = detector.outputs(blob)
        assert len(outputs) == len(OUTPUTS) == 9
        cells = [20 * 12 * 2, 10 * 6 * 2, 5 * 3 * 2]
        assert [out.shape for out in outputs[::3]] == [(cells[0], 1), (cells[0], 4), (cells[0], 10)]
        assert [out.shape[0] for out in outputs] == cells * 3

        with torch.no_grad():
            logits, boxes, points = flatten(model(torch.from_numpy(blob)))
        moved = [np.tile(shifts[2 * i : 2 * i + 2], cells[i] // 2) for i in range(3)]
        shifted = logits[0] + torch.from_numpy(np.concatenate(moved))
        np.testing.assert_allclose(np.concatenate(outputs[:3])[:, 0], shifted.sigmoid(), atol=1e-5)
        np.testing.assert_allclose(np.concatenate(outputs[3:6]), boxes[0], atol=1e-4)
        np.testing.assert_allclose(
            np.concatenate(outputs[6:]), points[0].reshape(-1, 10), atol=1e-4
        )


def test_parts_of_faces_larger_than_the_canvas_are_background():
    canvas = Canvas(np.zeros((64, 64, 3), np.uint8))
    box = np.array([10, 10, 30, 30], np.float32)
    matrix = np.array([[8, 0, -128], [0, 8, -128]], np.float32)  # 160 pixels, twice the canvas
    points = np.full((5, 2), 20, np.float32)
    photo = np.full((40, 40, 3), 200, np.uint8)
    canvas.paste_face(photo, np.ones((40, 40), np.float32), matrix, box=box, points=points)
    sample = canvas.finish()
    assert len(sample.boxes) == len(sample.ignored) == 0
