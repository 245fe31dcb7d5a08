"""Rank 3: each Python stage as one function from named arrays to named arrays.

The arrays are those of `contract.py`; `adapter.py` takes them from and to Triton.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from triton_python_backend import alignment, contract, detection, preprocess, quality, results
from triton_python_backend.geometry import Letterbox

Arrays = Mapping[str, npt.NDArray[Any]]


def preprocess_image(inputs: Arrays) -> Arrays:
    """Stage 1 of 7: IMAGE to PIXELS, FRAME, CLOSEUP and LETTERBOX.

    Raises:
        InvalidImageError: if the bytes cannot be decoded.

    """
    pixels = preprocess.decode(bytes(inputs[contract.IMAGE].reshape(-1)[0]))
    canvases = preprocess.make_canvases(pixels)
    letterboxes = (canvases.frame_letterbox, canvases.closeup_letterbox)
    return {
        contract.PIXELS: pixels,
        contract.FRAME: canvases.frame[None],
        contract.CLOSEUP: canvases.closeup[None],
        contract.LETTERBOX: np.array(
            [[box.scale, box.pad_x, box.pad_y] for box in letterboxes], dtype=np.float32
        ),
    }


def align_faces(inputs: Arrays) -> Arrays:
    """Stage 3 of 7: PIXELS and both canvases' detections to faces, crops and quality."""
    pixels = inputs[contract.PIXELS]
    height, width = pixels.shape[:2]
    frame_box, closeup_box = (Letterbox(*map(float, row)) for row in inputs[contract.LETTERBOX])
    frame = detection.Detections(
        inputs[contract.FRAME_BOXES][0],
        inputs[contract.FRAME_LANDMARKS][0],
        inputs[contract.FRAME_CONFIDENCE][0],
    )
    closeup = detection.Detections(
        inputs[contract.CLOSEUP_BOXES][0],
        inputs[contract.CLOSEUP_LANDMARKS][0],
        inputs[contract.CLOSEUP_CONFIDENCE][0],
    )
    faces = detection.merge(
        detection.to_image(detection.found(frame), frame_box, width=width, height=height),
        detection.to_image(detection.found(closeup), closeup_box, width=width, height=height),
        width=width,
        height=height,
    )
    crops = alignment.align(pixels, faces.landmarks)
    filler = np.zeros((1, *crops.shape[1:]), dtype=np.uint8)
    return {
        contract.BOXES: faces.boxes,
        contract.LANDMARKS: faces.landmarks,
        contract.CONFIDENCE: faces.confidence,
        contract.QUALITY: quality.assess(crops, faces.boxes, faces.landmarks),
        contract.CROPS: crops,
        contract.CROPS_OR_FILLER: crops if len(crops) else filler,
        contract.FACE_COUNT: np.array([len(crops)], dtype=np.int64),
        contract.DETECTOR: inputs[contract.FRAME_DETECTOR].reshape(1),
    }


def gather_results(inputs: Arrays) -> Arrays:
    """Stage 6 of 7: one row per face, and each id once."""
    faces = int(inputs[contract.FACE_COUNT][0])
    return {
        contract.EMBEDDING: results.drop_filler(inputs[contract.EMBEDDING], faces=faces),
        contract.SPACE: results.said_once(inputs[contract.SPACE]),
        contract.SCORE: results.drop_filler(inputs[contract.SCORE].reshape(-1), faces=faces),
        contract.HEAD: results.said_once(inputs[contract.HEAD]),
    }
