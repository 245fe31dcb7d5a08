"""Below which confidences a detector is to be asked again, measured on photos that are upright."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from tools.evaluation.photos import Photo
from triton_python_backend import contract, decoding, preprocess
from triton_python_backend.decoding import Picture
from triton_python_backend.detection import Detections, merge
from triton_python_backend.face_search import Ask
from triton_python_backend.formats.header import InvalidImageError
from triton_python_backend.rotation import turn_picture
from triton_python_backend.rotation_search import upright_confidence

FEWEST_PHOTOS: Final = 1000
"""Photos with faces. A face in the close-up beside another one in the frame is rare: one photo in
three hundred."""

WORTH: Final = 1 / 100
"""Faces that a close-up must show on average to be looked at beside a face in the frame."""

MARGIN: Final = 0.01
TURNED_EVERY: Final = 4
"""Photos of which one is looked at upside down, too."""

UPSIDE_DOWN_SEEN: Final = 0.94
"""Share of upside-down photos that are to be looked at turned. The others show a face so surely
that most upright photos would have to be looked at again to find them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a detector saw in one photo.

    frame: confidence of the surest face in the frame, 0 without one. upright_frame, upright: of the
    surest upright face in the frame, and in frame and close-up together. adds: whether the close-up
    shows a face more. upside_down: `upright` of the photo turned by 180 degrees, if it was.
    """

    frame: float
    upright_frame: float
    upright: float
    adds: bool
    upside_down: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Confidences for a detector and the shares of photos that it is asked again about.

    closeup_share: of all photos, those whose close-up is looked at; turned_share: those that are
    looked at turned.
    """

    closeup_below: float
    turned_below: float
    closeup_share: float
    turned_share: float
    photos: int

    def document(self) -> dict[str, Any]:
        """Give what stands in a version's file."""
        return asdict(self)


def measure(
    ask: Ask, photos: Iterable[Photo], *, progress: Callable[[int], None] = lambda _: None
) -> Measured | None:
    """Measure a detector on upright photos; None for fewer than `FEWEST_PHOTOS` with a face.

    ask: reaches the detector. progress: called with the number of photos that are done.
    """
    seen = []
    for number, (_, data) in enumerate(photos):
        try:
            picture = decoding.decode_reduced(data, reduction=1)
        except InvalidImageError:
            continue
        seen.append(see(picture, ask, upside_down=number % TURNED_EVERY == 0))
        progress(number + 1)
    return conclude(seen)


def see(picture: Picture, ask: Ask, *, upside_down: bool) -> Seen:
    """Look at frame and close-up of a picture, and with `upside_down` at both turned."""
    frame, closeup = _frame_and_closeup(picture, ask)
    size = {"width": picture.width, "height": picture.height}
    turned = None
    if upside_down:
        other, _ = turn_picture(picture, 180, longest=max(picture.pixels.shape))
        turned = max(map(upright_confidence, _frame_and_closeup(other, ask)))
    upright = upright_confidence(frame)
    return Seen(
        frame=float(frame.confidence.max(initial=0)),
        upright_frame=upright,
        upright=max(upright, upright_confidence(closeup)),
        adds=len(merge(frame, closeup, **size).boxes) > len(frame.boxes),
        upside_down=turned,
    )


def conclude(seen: Sequence[Seen]) -> Measured | None:
    """Choose confidences at which few photos are looked at again and few faces are lost."""
    shown = [each for each in seen if max(each.frame, each.upright) > 0 or each.adds]
    upside_down = [each.upside_down for each in shown if each.upside_down is not None]
    if len(shown) < FEWEST_PHOTOS or not upside_down:
        return None
    turned_below = max(contract.MIN_CONFIDENCE, float(np.quantile(upside_down, UPSIDE_DOWN_SEEN)))
    closeup_below = _closeup_below(shown, turned_below)
    closeups = [each.frame < closeup_below or each.upright_frame < turned_below for each in shown]
    turns = [
        (each.upright if asked else each.upright_frame) < turned_below
        for each, asked in zip(shown, closeups, strict=True)
    ]
    return Measured(
        closeup_below=round(min(closeup_below, 1.0), 3),
        turned_below=round(turned_below, 3),
        closeup_share=round(float(np.mean(closeups)), 4),
        turned_share=round(float(np.mean(turns)), 4),
        photos=len(shown),
    )


def _closeup_below(shown: Sequence[Seen], turned_below: float) -> float:
    """Raise the confidence while the close-ups that it adds show enough faces.

    Below `turned_below` the close-up is looked at in any case, before the picture is turned.
    """
    frames = np.array([each.frame for each in shown if each.upright_frame >= turned_below])
    beside = [each.frame for each in shown if each.adds and each.frame >= turned_below]
    best, chosen = 0.0, turned_below
    for value in sorted(beside):
        below = value + MARGIN
        faces = sum(each < below for each in beside)
        gain = faces - WORTH * int((frames < below).sum())
        if gain > best:
            best, chosen = gain, below
    return chosen


def _frame_and_closeup(picture: Picture, ask: Ask) -> tuple[Detections, Detections]:
    size = {"width": picture.width, "height": picture.height}
    canvas, letterbox = preprocess.make_closeup(picture)
    frame = _only(ask([preprocess.make_frame(picture)[0]]))
    closeup = _only(ask([canvas]))
    return (
        frame.to_image(preprocess.frame_letterbox(picture), **size),
        closeup.to_image(letterbox, **size),
    )


def _only(answer: list[Detections] | None) -> Detections:
    return Detections.none() if not answer else answer[0]
