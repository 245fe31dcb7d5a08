"""Which canvases the detector gets; the fake answers by the place of a bright square."""

from collections.abc import Sequence

import numpy as np
import pytest

from triton_python_backend import contract, preprocess
from triton_python_backend.decoding import Picture
from triton_python_backend.detection import Detections
from triton_python_backend.face_search import Found, find_faces
from triton_python_backend.geometry import ARCFACE_TEMPLATE
from triton_python_backend.second_look import UNMEASURED, SecondLook

HIGH = contract.Look(detail="high")


class Detector:
    """A detector that sees an upright face wherever a red square is above a green one."""

    def __init__(self, *, confidence: float = 0.9, served: bool = True) -> None:
        self.confidence = confidence
        self.served = served
        self.asked: list[list[tuple[int, ...]]] = []

    def ask(self, canvases: Sequence[np.ndarray]) -> list[Detections] | None:
        self.asked.append([canvas.shape for canvas in canvases])
        return [self.see(canvas) for canvas in canvases] if self.served else None

    def see(self, canvas: np.ndarray) -> Detections:
        places = []
        for channel in (0, 1):
            rows, columns = np.nonzero(canvas[..., channel] > 127)
            if len(rows) < 100:
                return Detections.none()
            places.append((columns, rows))
        (red_x, red_y), (green_x, green_y) = places
        x, y = green_x.mean() - red_x.mean(), green_y.mean() - red_y.mean()
        if y < 4 * abs(x):
            return Detections.none()
        left, right = min(red_x.min(), green_x.min()), max(red_x.max(), green_x.max()) + 1
        box = np.array([[left, red_y.min(), right, green_y.max() + 1]], np.float32)
        size = box[0, 2:] - box[0, :2]
        points = ARCFACE_TEMPLATE / 112 * size + box[0, :2]
        confidence = np.array([self.confidence], np.float32)
        return Detections(box, points[None].astype(np.float32), confidence)


def picture(*, width: int = 800, height: int = 600, size: int = 80) -> Picture:
    """The face's box is size x size, at (500, 100)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[100 : 100 + size // 2, 500 : 500 + size, 0] = 255
    pixels[100 + size // 2 : 100 + size, 500 : 500 + size, 1] = 255
    return Picture.whole(pixels)


def turned(whole: Picture, quarters: int) -> Picture:
    return Picture.whole(np.ascontiguousarray(np.rot90(whole.pixels, quarters)))


def find(
    shown: Picture,
    detector: Detector,
    look: contract.Look = contract.DEFAULT_LOOK,
    second_look: SecondLook = UNMEASURED,
) -> Found:
    frame = detector.see(preprocess.make_frame(shown)[0])
    return find_faces(
        shown,
        frame,
        look,
        ask=detector.ask,
        finer=lambda reduction: shown,
        second_look=second_look,
    )


def test_an_upright_face_needs_no_second_look():
    detector = Detector()
    found = find(picture(), detector)
    assert detector.asked == []
    assert found.degrees == 0
    np.testing.assert_allclose(found.faces.boxes, [[500, 100, 580, 180]], atol=3)
    assert found.upright is found.faces.landmarks


@pytest.mark.parametrize(
    ("confidence", "closeup_below", "turned_below", "rotation", "looks"),
    [
        (0.75, 0.77, 0.72, "auto", [1]),
        (0.75, 0.70, 0.72, "auto", []),
        (0.75, 0.75, 0.75, "auto", []),
        # the close-up may show what the turned looks would be for
        (0.75, 0.70, 0.76, "auto", [1, 3, 7, 3]),
        (0.75, 0.70, 0.76, "off", []),
        (0.75, 0.76, 0.70, "off", [1]),
    ],
)
def test_the_detectors_own_confidences_say_when_it_is_asked_again(
    confidence, closeup_below, turned_below, rotation, looks
):
    detector = Detector(confidence=confidence)
    find(
        picture(),
        detector,
        contract.Look(rotation=rotation),
        SecondLook(closeup_below, turned_below),
    )
    assert [len(shapes) for shapes in detector.asked] == looks


@pytest.mark.parametrize(
    ("quarters", "box"),
    [
        (1, [100, 220, 180, 300]),
        (2, [220, 420, 300, 500]),
        (3, [420, 500, 500, 580]),
    ],
)
def test_a_turned_picture_is_looked_at_upright_and_answered_as_sent(quarters, box):
    detector = Detector()
    found = find(turned(picture(), quarters), detector)
    assert found.degrees == 90 * quarters
    np.testing.assert_allclose(found.faces.boxes, [box], atol=4)
    # in the turned look the left eye is left of the right one; in the image it may not be
    assert (found.upright[0, 1] - found.upright[0, 0])[0] > 20
    eyes = found.faces.landmarks[0, 1] - found.faces.landmarks[0, 0]
    across = {1: [0, -1], 2: [-1, 0], 3: [0, 1]}[quarters]
    np.testing.assert_allclose(eyes / np.linalg.norm(eyes), across, atol=0.02)
    # close-up, all sides at once, then the frame of one side
    assert [len(shapes) for shapes in detector.asked] == [1, 7, 1]


def test_rotation_off_takes_a_turned_picture_as_it_is():
    detector = Detector()
    found = find(turned(picture(), 1), detector, contract.Look(rotation="off"))
    assert len(found.faces.boxes) == 0
    assert len(detector.asked) == 1


@pytest.mark.parametrize(("width", "asked"), [(800, [1, 3, 3]), (320, [1, 3])])
def test_a_picture_without_faces_costs_no_more_than_these_looks(width, asked):
    detector = Detector()
    noise = np.random.default_rng(0).integers(0, 120, (300, width, 3), dtype=np.uint8)
    found = find(Picture.whole(noise), detector)
    assert (found.degrees, len(found.faces.boxes)) == (0, 0)
    assert [len(shapes) for shapes in detector.asked] == asked


def test_a_picture_with_filled_corners_is_also_shown_at_angles_between():
    detector = Detector()
    find(Picture.whole(np.zeros((300, 400, 3), np.uint8)), detector)
    assert [len(shapes) for shapes in detector.asked] == [1, 7, 3]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_faces_as_small_as_the_frame_shows_them_are_found_turned(quarters):
    found = find(turned(picture(width=2400, height=1800, size=60), quarters), Detector())
    assert (found.degrees, len(found.faces.boxes)) == (90 * quarters, 1)


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("confidence", [0.6, 0.7])
def test_a_false_face_does_not_hide_a_turned_one(quarters, confidence):
    detector, shown = Detector(), turned(picture(), quarters)
    box = np.array([[20, 20, 50, 50]], np.float32)
    points = (ARCFACE_TEMPLATE / 112 * 30 + 20)[None].astype(np.float32)
    false = Detections(box, points, np.array([confidence], np.float32))
    look = contract.DEFAULT_LOOK
    found = find_faces(shown, false, look, ask=detector.ask, finer=lambda reduction: shown)
    assert (found.degrees, len(found.faces.boxes)) == (90 * quarters, 1)


@pytest.mark.parametrize(("confidence", "looks"), [(0.7, [3, 7, 3]), (0.6, [5, 7, 3])])
def test_a_faint_face_is_looked_at_from_other_sides_and_kept(confidence, looks):
    detector = Detector(confidence=confidence)
    found = find(picture(), detector)
    assert found.degrees == 0
    np.testing.assert_allclose(found.faces.boxes, [[500, 100, 580, 180]], atol=3)
    assert set(detector.asked[-len(looks)]) == {(128, 128, 3)}
    assert [len(shapes) for shapes in detector.asked[-len(looks) :]] == looks


def test_without_the_detector_the_answer_of_the_frame_remains():
    found = find(turned(picture(), 1), Detector(served=False))
    assert (found.degrees, len(found.faces.boxes)) == (0, 0)


def test_only_high_detail_looks_at_tiles():
    large = picture(width=2600, height=1400, size=24)
    assert len(find(large, Detector()).faces.boxes) == 0
    detector = Detector()
    found = find(large, detector, HIGH)
    np.testing.assert_allclose(found.faces.boxes, [[500, 100, 524, 124]], atol=1.5)
    # 2600 x 1400 in 5 x 3, 1300 x 700 in 3 x 2, 650 x 350 in 2 x 1
    assert [len(shapes) for shapes in detector.asked] == [23]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_high_detail_finds_small_faces_of_a_turned_picture(quarters):
    large = turned(picture(width=2600, height=1400, size=24), quarters)
    assert len(find(large, Detector()).faces.boxes) == 0
    found = find(large, Detector(), HIGH)
    assert found.degrees == 90 * quarters
    assert len(found.faces.boxes) == 1
    np.testing.assert_allclose(found.faces.boxes[0, 2:] - found.faces.boxes[0, :2], 24, atol=2)


def test_high_detail_decodes_in_full():
    large = picture(width=2600, height=1400, size=24)
    reduced = Picture(np.ascontiguousarray(large.pixels[::2, ::2]), 2600, 1400, 2)
    asked = []

    def finer(reduction: int) -> Picture:
        asked.append(reduction)
        return large

    frame = Detections.none()
    found = find_faces(reduced, frame, HIGH, ask=Detector().ask, finer=finer)
    assert asked == [1]
    assert found.picture is large
    assert len(found.faces.boxes) == 1
