"""The detector's loss: its minimum, its order and its units."""

import numpy as np
import pytest

from tools.training.detection.scrfd import iou_matrix

torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")

from tools.training.detection.loss import (  # noqa: E402  # needs PyTorch
    EYES_APART,
    NARROWEST,
    detection_loss,
    overlap,
)


def test_overlap_of_distances_is_that_of_boxes() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.uniform(0.5, 3, (2, 20, 4)).astype(np.float32)
    iou, diou = overlap(torch.from_numpy(left), torch.from_numpy(right))

    def corners(distance: np.ndarray) -> np.ndarray:
        return np.hstack([-distance[:, :2], distance[:, 2:]])

    expected = np.diag(iou_matrix(corners(left), corners(right)))
    np.testing.assert_allclose(iou.numpy(), expected, rtol=1e-5)
    same, perfect = overlap(torch.from_numpy(left), torch.from_numpy(left))
    np.testing.assert_allclose(same.numpy(), 1, rtol=1e-5)
    np.testing.assert_allclose(perfect.numpy(), 1, rtol=1e-5)
    assert (diou <= iou).all()


def test_a_perfect_answer_costs_nothing() -> None:
    rows = torch.tensor([2, 5])
    boxes, points = torch.rand(2, 4) + 1, torch.rand(2, 5, 2)
    logits = torch.full((1, 8), -20.0)
    logits[0, rows] = torch.tensor([20.0, 0.0])  # the second: half a face, according to the teacher
    distances, offsets = torch.ones(1, 8, 4), torch.zeros(1, 8, 5, 2)
    distances[0, rows], offsets[0, rows] = boxes, points
    weight = torch.ones(1, 8)
    answer, label = (logits, distances, offsets), {"rows": rows, "boxes": boxes}
    label |= {"points": points, "scores": torch.tensor([torch.nan, 0.5])}
    assert detection_loss(answer, weight=weight, **label).total.item() < 1e-4
    logits[0, 0] = 20.0
    assert detection_loss(answer, weight=weight, **label).score.item() > 1
    weight[0, 0] = 0
    assert detection_loss(answer, weight=weight, **label).total.item() < 1e-4
    logits[0, 5] = 20.0
    assert detection_loss(answer, weight=weight, **label).score.item() > 1


def test_rows_with_a_low_score_of_the_teacher_have_no_box_loss() -> None:
    answer = torch.zeros(1, 4), torch.ones(1, 4, 4), torch.zeros(1, 4, 5, 2)
    label = {"weight": torch.ones(1, 4), "rows": torch.tensor([1])}
    label |= {"boxes": torch.full((1, 4), 3.0), "points": torch.ones(1, 5, 2)}
    faint = detection_loss(answer, scores=torch.tensor([0.1]), **label)
    assert faint.box.item() == faint.point.item() == 0
    clear = detection_loss(answer, scores=torch.tensor([0.6]), **label)
    assert clear.box.item() > 0.1
    assert clear.point.item() > 0.1


def test_landmarks_are_measured_in_distances_between_the_eyes() -> None:
    box = torch.full((1, 4), 5.0)  # a face ten strides large
    front = torch.zeros(1, 5, 2)
    front[0, 1, 0] = 10 * EYES_APART

    def cost(points: torch.Tensor, error: float) -> float:
        logits, distances = torch.zeros(1, 1), box[None]
        label = {"weight": torch.ones(1, 1), "rows": torch.tensor([0]), "boxes": box}
        scores = torch.tensor([0.9])
        answer = (logits, distances, points[None] + error)
        return detection_loss(answer, points=points, scores=scores, **label).point.item()

    half, none = front / 2, torch.zeros(1, 5, 2)
    assert cost(half, 1.0) == pytest.approx(cost(front, 2.0), rel=1e-4)
    assert cost(none, NARROWEST) == pytest.approx(cost(front, 1.0), rel=1e-4)
    assert cost(front * 2, 1.0) == pytest.approx(cost(front, 1.0), rel=1e-4)
