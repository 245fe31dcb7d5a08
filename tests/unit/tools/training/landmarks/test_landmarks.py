"""The detector's second network: frames, crops, dataset, training and export."""

from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny_sources
from tools.importing.graph.average_landmarks import AVERAGED, PROPERTY
from tools.importing.graph.refine_landmarks import REACH, SIDE
from tools.training.detection.sample import Sample
from tools.training.detection.scrfd import RawDetector
from tools.training.landmarks import dataset
from tools.training.landmarks.crops import cut, frames_of

torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")

from tools.training.detection.export import export  # noqa: E402
from tools.training.detection.network import LiteDetector, NetConfig  # noqa: E402
from tools.training.landmarks.augment import varied  # noqa: E402
from tools.training.landmarks.export import join  # noqa: E402
from tools.training.landmarks.loss import landmark_loss  # noqa: E402
from tools.training.landmarks.network import BothWays, Refiner  # noqa: E402
from tools.training.landmarks.train import TrainSettings, train  # noqa: E402

UPRIGHT = np.array([[-1, -1], [1, -1], [0, 0], [-1, 1], [1, 1]], np.float32)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def turned(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Return box [1,4] and landmarks [1,5,2] of a face at (60, 50) with a crop SIDE pixels wide."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    half = SIDE / REACH / 2
    box = np.array([[60 - half, 50 - half, 60 + half, 50 + half]], np.float32)
    return box, (UPRIGHT * half / 2 @ turn + [60, 50])[None].astype(np.float32)


def test_an_upright_face_is_cropped_pixel_by_pixel():
    canvas = np.random.default_rng(0).integers(0, 256, (120, 140, 3)).astype(np.uint8)
    crop = cut(canvas, frames_of(*turned(0)))[0]
    np.testing.assert_allclose(crop, canvas[30:70, 40:80], atol=1e-3)


def test_a_turned_face_is_cropped_upright():
    canvas = np.random.default_rng(0).integers(0, 256, (120, 140, 3)).astype(np.uint8)
    crop = cut(canvas, frames_of(*turned(90)))[0]
    # its downward direction is the canvas's left
    np.testing.assert_allclose(crop, np.rot90(canvas[30:70, 40:80]), atol=1e-3)
    np.testing.assert_allclose(
        frames_of(*turned(90)).inward(turned(90)[1]), [UPRIGHT / 2 / REACH], atol=1e-5
    )


def test_crops_beyond_the_edge_repeat_it():
    canvas = np.full((30, 30, 3), 7, np.uint8)
    assert (cut(canvas, frames_of(*turned(30))) == 7).all()


def test_frames_map_in_and_out():
    rng = np.random.default_rng(1)
    box, points = turned(20)
    frames = frames_of(np.repeat(box, 8, axis=0), np.repeat(points, 8, axis=0)).shaken(rng)
    assert len(np.unique(frames.halves)) == 8
    np.testing.assert_allclose(np.linalg.norm(frames.down, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        frames.outward(frames.inward(np.repeat(points, 8, axis=0))),
        np.repeat(points, 8, axis=0),
        atol=1e-3,
    )


def test_coinciding_landmarks_have_no_direction():
    frames = frames_of(turned(0)[0], np.full((1, 5, 2), 50, np.float32))
    np.testing.assert_allclose(frames.down, [[0, 1]])


def detector(path: Path, *, shift: float) -> Path:
    return tiny_sources.save_detector(
        path,
        distances=np.full((1, 4), 6, np.float32),
        offsets=(UPRIGHT * 3 + shift).reshape(1, 10).astype(np.float32),
        metadata={PROPERTY: AVERAGED},
        order="sbk",
    )


def test_the_dataset_contains_faces_that_both_see(tmp_path):
    student = RawDetector(detector(tmp_path / "a.onnx", shift=0.5))
    teacher = RawDetector(detector(tmp_path / "b.onnx", shift=0))
    rng = np.random.default_rng(2)
    canvas = rng.integers(0, 100, (320, 320, 3)).astype(np.uint8)
    assert dataset.about(canvas, detector=student, teacher=teacher, rng=rng) is None
    canvas[160:168, 160:168, 0] = 205
    found = dataset.about(canvas, detector=student, teacher=teacher, rng=rng)
    assert found is not None
    assert found.crops.shape == (1, dataset.VIEWS, SIDE, SIDE, 3)
    # the student is half a stride off, in a crop of 4/3 of 12 strides
    off = found.offered[0, 0] - found.truth[0, 0]
    np.testing.assert_allclose(off, np.full((5, 2), 0.5 / 8), atol=1e-3)
    both = dataset.joined([found, found])
    assert len(both) == 2
    assert not np.array_equal(both.offered[0, 1], both.offered[0, 0])


def test_each_detector_has_its_own_dataset(tmp_path, monkeypatch):
    canvas = np.random.default_rng(2).integers(0, 100, (320, 320, 3)).astype(np.uint8)
    canvas[160:168, 160:168, 0] = 205
    nobody = np.zeros((0, 4), np.float32)
    made = []

    def scene(_, rng):
        made.append(rng)
        return Sample(canvas, nobody, np.zeros((0, 5, 2), np.float32), nobody)

    monkeypatch.setattr(dataset, "scene", scene)
    monkeypatch.setattr(dataset, "SCENES", 3)
    first = detector(tmp_path / "a.onnx", shift=0.5)
    other = detector(tmp_path / "b.onnx", shift=0)

    def collect(student):
        return list(
            dataset.collect(
                None, detector=student, teacher=other, seed=1, files=2, folder=tmp_path / "kept"
            )
        )

    paths = collect(first)
    assert len(made) == 6
    assert collect(first) == paths
    assert len(made) == 6
    assert [len(dataset.load(path)) for path in paths] == [3, 3]
    assert not set(collect(other)) & set(paths)
    assert len(made) == 12


def test_crops_are_mirrored_with_their_landmarks():
    crops = torch.zeros(64, 3, SIDE, SIDE)
    crops[:, :, 10, 5] = 9
    spot = torch.tensor([(5.5 / SIDE) * 2 - 1, (10.5 / SIDE) * 2 - 1])
    points = torch.stack([spot, -spot, -spot, -spot, -spot]).expand(64, 5, 2)
    images, moved = varied(crops, points)
    sides = set()
    for image, point in zip(images, moved, strict=True):
        y, x = divmod(int(image.sum(dim=0).argmax()), SIDE)
        eye = 0 if x < SIDE / 2 else 1
        sides.add(eye)
        torch.testing.assert_close(
            point[eye], torch.tensor([(x + 0.5) / SIDE * 2 - 1, (y + 0.5) / SIDE * 2 - 1])
        )
    assert sides == {0, 1}


def test_the_loss_is_the_error_in_distances_between_the_eyes():
    truth = torch.from_numpy(UPRIGHT / 2)
    off = truth + torch.tensor([0.03, 0.04])
    assert landmark_loss(off.reshape(1, 10), truth.reshape(1, 10)).item() == pytest.approx(
        0.05, rel=0.02
    )


def dots(count: int) -> dataset.LandmarkDataset:
    """Return faces with all landmarks on one bright dot, offered elsewhere."""
    rng = np.random.default_rng(3)
    crops = np.zeros((count, 1, SIDE, SIDE, 3), np.uint8)
    places = rng.integers(8, SIDE - 8, (count, 2))
    for crop, (x, y) in zip(crops, places, strict=True):
        crop[0, y - 2 : y + 3, x - 2 : x + 3] = 255
    spots = ((places + 0.5) / SIDE * 2 - 1)[:, None, None].astype(np.float32)
    truth = np.broadcast_to(spots, (count, 1, 5, 2)).copy()
    return dataset.LandmarkDataset(crops, np.zeros_like(truth), truth)


def test_training_learns_and_resumes(tmp_path):
    taught = dots(512)
    faces = torch.from_numpy(taught.crops[:, 0]).permute(0, 3, 1, 2).float().sub(127.5).div(128)
    offered, truth = (
        torch.from_numpy(part[:, 0]).flatten(1) for part in (taught.offered, taught.truth)
    )
    settings = TrainSettings(steps=40, batch=64, warmup=1, muon_rate=0.1, adam_rate=0.02)
    refiner, steps = train(taught, out=tmp_path, settings=settings, resume=True)
    with torch.no_grad():
        before = landmark_loss(offered, truth)
        after = landmark_loss(refiner(faces, offered), truth)
    assert steps == 40
    assert after < 0.6 * before
    # completed steps are not repeated, and additional steps continue from there
    again, steps = train(taught, out=tmp_path, settings=settings, resume=True)
    assert steps == 40
    torch.testing.assert_close(again.out.weight, refiner.out.weight)
    _, steps = train(taught, out=tmp_path, settings=TrainSettings(steps=44, batch=64), resume=True)
    assert steps == 44


def test_a_face_and_its_mirror_image_have_mirrored_landmarks():
    refiner = Refiner().eval()
    torch.nn.init.normal_(refiner.out.weight, std=0.1)
    faces, points = torch.randn(3, 3, SIDE, SIDE), torch.randn(3, 10)
    order = [2, 3, 0, 1, 4, 5, 8, 9, 6, 7]
    across = torch.tensor([-1.0, 1.0]).repeat(5)
    mirror = faces.flip(3), points[:, order] * across
    with torch.no_grad():
        alone, both = (
            [network(*face) for face in ((faces, points), mirror)]
            for network in (refiner, BothWays(refiner))
        )
    assert not torch.allclose(alone[1], alone[0][:, order] * across, atol=1e-3)
    torch.testing.assert_close(both[1], both[0][:, order] * across)
    torch.testing.assert_close(both[0], (alone[0] + alone[1][:, order] * across) / 2)


def test_the_file_runs_with_and_without_the_refiner(tmp_path):
    raw, path = tmp_path / "raw.onnx", tmp_path / "refined.onnx"
    small = NetConfig(stem=8, widths=(8, 8, 8), blocks=(1, 1, 1), neck=8)
    export(LiteDetector(small).eval(), raw, shifts=(5.0,) * 6)
    refiner = Refiner()
    with torch.no_grad():
        refiner.trust.zero_()
        refiner.out.bias.fill_(0.25)
    join(raw, refiner, path)
    canvas = np.random.default_rng(1).integers(0, 256, (320, 320, 3)).astype(np.uint8)
    alone, left_out, refined = (
        network.detect(canvas, size=320)
        for network in (RawDetector(raw), RawDetector(path, refines=False), RawDetector(path))
    )
    assert len(alone) > 3
    np.testing.assert_allclose(left_out.landmarks, alone.landmarks, atol=1e-3)
    frames = frames_of(alone.boxes, alone.landmarks)
    moved = frames.inward(refined.landmarks) - frames.inward(alone.landmarks)
    # a shift to the right in the face and to the left in its mirror image cancel
    np.testing.assert_allclose(moved, np.full_like(moved, 0.25) * [0, 1], atol=1e-3)
    # another refiner replaces it
    with torch.no_grad():
        refiner.out.bias.zero_()
    join(path, refiner, tmp_path / "again.onnx")
    again = RawDetector(tmp_path / "again.onnx").detect(canvas, size=320)
    np.testing.assert_allclose(again.landmarks, alone.landmarks, atol=1e-3)
    assert path.stat().st_size - raw.stat().st_size < 600_000
