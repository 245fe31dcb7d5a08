"""Each Python stage as one function from named arrays to named arrays.

The arrays are those of `contract.py`; `adapter.py` converts them from and to Triton's requests.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from triton_python_backend import (
    alignment,
    contract,
    decoding,
    detection,
    face_search,
    preprocess,
    results,
)
from triton_python_backend import quality as qualities
from triton_python_backend.decoding import Decode, Picture, Pixels
from triton_python_backend.formats.header import Header
from triton_python_backend.formats.reader import read_header
from triton_python_backend.second_look import UNMEASURED, SecondLook

Arrays = Mapping[str, npt.NDArray[Any]]
FindSecondLook = Callable[[int], SecondLook]
"""Returns the confidences, by a detector's id, below which an image is searched further."""

BRIEF_NANOSECONDS: Final = 10_000_000
"""An image with a higher estimated cost is decoded on another thread. The handover costs 0.3 ms of
processor time."""


@dataclass(frozen=True, slots=True)
class Slow:
    """What a stage returns instead of outputs for a request that would delay others."""

    work: Callable[[], Arrays]


@dataclass(frozen=True, slots=True)
class Beside:
    """What a stage returns instead of outputs for work that may run concurrently."""

    work: Callable[[], Arrays]


class AskDetector(Protocol):
    """Runs the detector with these weights on further canvases."""

    def __call__(
        self, canvases: Sequence[Pixels], *, detector: int
    ) -> list[detection.Detections] | None:
        """Detect faces on each canvas, in its pixels; None if that detector is not served."""


def preprocess_image(inputs: Arrays, *, decode: Decode = decoding.decode_with) -> Arrays:
    """Stage 1 of 6: IMAGE to PIXELS, FRAME and SIZE.

    Raises:
        InvalidImageError: if the bytes cannot be decoded.

    """
    data = _encoded(inputs)
    return _preprocess(read_header(data), data, decode)


def preprocess_or_defer(
    inputs: Arrays, *, decode: Decode = decoding.decode_with
) -> Arrays | Beside | Slow:
    """Run `preprocess_image`; for an image that is costly to decode, return the work instead."""
    data = _encoded(inputs)
    header = read_header(data)
    work = partial(_preprocess, header, data, decode)
    if header.is_slow:
        return Slow(work)
    return Beside(work) if header.cost > BRIEF_NANOSECONDS else work()


def _preprocess(header: Header, data: bytes, decode: Decode) -> Arrays:
    picture = decode(header, data)
    frame, _ = preprocess.make_frame(picture)
    size = [picture.width, picture.height, picture.reduction]
    return {
        contract.PIXELS: picture.pixels,
        contract.FRAME: frame[None],
        contract.SIZE: np.array(size, dtype=np.int64),
    }


def align_faces(
    inputs: Arrays,
    look: contract.Look = contract.DEFAULT_LOOK,
    *,
    ask: AskDetector,
    second_look: FindSecondLook = lambda detector: UNMEASURED,
    decode: Decode = decoding.decode_with,
) -> Arrays:
    """Stage 3 of 6: the picture and the frame's detections to faces, crops and quality.

    Raises: as `ask`; InvalidImageError if the bytes cannot be decoded again.
    """
    picture = Picture(inputs[contract.PIXELS], *map(int, inputs[contract.SIZE]))
    detector = int(inputs[contract.FRAME_DETECTOR].reshape(-1)[0])
    frame = detection.Detections(
        inputs[contract.FRAME_BOXES][0],
        inputs[contract.FRAME_LANDMARKS][0],
        inputs[contract.FRAME_CONFIDENCE][0],
    )

    def finer(reduction: int) -> Picture:
        data = _encoded(inputs)
        return decode(read_header(data), data, reduction=reduction)

    found = face_search.find_faces(
        picture,
        frame.seen(),
        look,
        ask=partial(ask, detector=detector),
        finer=finer,
        second_look=second_look(detector),
    )
    rows = slice(look.max_faces)
    faces = found.faces.take(rows)
    crops = alignment.align_in(found.picture, faces.landmarks, finer=finer)
    filler = np.zeros((1, *crops.shape[1:]), dtype=np.uint8)
    return {
        contract.BOXES: faces.boxes,
        contract.LANDMARKS: faces.landmarks,
        contract.CONFIDENCE: faces.confidence,
        contract.QUALITY: qualities.assess(crops, faces.boxes, found.upright[rows]),
        contract.CROPS: crops,
        contract.CROPS_OR_FILLER: crops if len(crops) else filler,
        contract.FACE_COUNT: np.array([len(crops)], dtype=np.int64),
        contract.DETECTOR: np.array([detector], dtype=np.int64),
        contract.FOUND_CONFIDENCE: found.faces.confidence,
        contract.ROTATION: np.array([found.degrees], dtype=np.int64),
    }


def align_or_defer(
    inputs: Arrays,
    look: contract.Look = contract.DEFAULT_LOOK,
    *,
    ask: AskDetector,
    second_look: FindSecondLook = lambda detector: UNMEASURED,
    decode: Decode = decoding.decode_with,
) -> Arrays | Beside | Slow:
    """Run `align_faces`; if the detector must run again, return the work instead.

    High detail takes seconds and is slow work.
    """
    work = partial(align_faces, inputs, look, second_look=second_look, decode=decode)
    if look.detail == "high":
        return Slow(partial(work, ask=ask))
    try:
        return work(ask=_ask_nobody)
    except _AskedError:
        # until then it took little time
        return Beside(partial(work, ask=ask))


class _AskedError(Exception):
    """Raised instead of running the detector."""


def _ask_nobody(canvases: Sequence[Pixels], *, detector: int) -> None:
    raise _AskedError


def gather_results(inputs: Arrays) -> Arrays:
    """Stage 6 of 6: one row per face, and each id once."""
    faces = int(inputs[contract.FACE_COUNT][0])
    return {
        contract.EMBEDDING: results.drop_filler(inputs[contract.EMBEDDING], faces=faces),
        contract.SPACE: results.said_once(inputs[contract.SPACE]),
        contract.SCORE: results.drop_filler(inputs[contract.SCORE].reshape(-1), faces=faces),
        contract.HEAD: results.said_once(inputs[contract.HEAD]),
    }


def _encoded(inputs: Arrays) -> bytes:
    return bytes(inputs[contract.IMAGE].reshape(-1)[0])
