"""SCRFD's raw ONNX layout, decoded with NumPy in the same way for teacher and student.

A raw SCRFD network takes ``input.1`` ``[1,3,H,W]`` float32 RGB, ``(x - 127.5) / 128``, and
outputs nine tensors: scores ``[n,1]`` (after the sigmoid), boxes ``[n,4]`` and landmarks
``[n,10]``, each for the strides 8, 16 and 32, in units of the stride, relative to the centre of
the cell, which lies at ``(column * stride, row * stride)``; two rows per cell. The decoding
follows insightface's ``scrfd.py`` (``distance2bbox``, ``distance2kps``, ``nms``).
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from tools.importing.graph.average_landmarks import AVERAGED, NEAR, PROPERTY
from tools.importing.graph.refine_landmarks import FACES, POINTS, REFINED, REFINED_POINTS
from tools.training.landmarks.crops import cut, frames_of

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

STRIDES = (8, 16, 32)
NMS_IOU = 0.4
DEFAULT_THRESHOLD = 0.5
_LEAST = (32, 32)


@dataclass(frozen=True, slots=True)
class Detections:
    """Faces of one image, best score first.

    boxes: ``[N,4]`` float32 xyxy; landmarks: ``[N,5,2]`` float32; scores: ``[N]`` float32, 0-1.
    Boxes and landmarks are in pixels of the processed image.
    """

    boxes: FloatArray
    landmarks: FloatArray
    scores: FloatArray

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "Detections":
        """Return the rows that `index` names, in its order."""
        return Detections(self.boxes[index], self.landmarks[index], self.scores[index])

    def moved(self, *, scale: float, dx: float, dy: float) -> "Detections":
        """Return the same faces after ``x -> x * scale + dx``, ``y -> y * scale + dy``."""
        shift = np.array([dx, dy], np.float32)
        boxes = self.boxes * np.float32(scale) + np.tile(shift, 2)
        return Detections(boxes, self.landmarks * np.float32(scale) + shift, self.scores)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open an ONNX Runtime session on one thread of the CPU (warnings about fixed shapes muted)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def to_blob(image: ByteArray) -> FloatArray:
    """``[H,W,3]`` uint8 RGB to ``[1,3,H,W]`` float32, ``(x - 127.5) / 128``."""
    scaled = (image.astype(np.float32) - 127.5) / 128.0
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def letterbox(image: ByteArray, size: int) -> tuple[ByteArray, float]:
    """Scale the image into ``size`` x ``size`` at the top left, black elsewhere; the scale, too."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    new_w, new_h = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((size, size, 3), np.uint8)
    canvas[:new_h, :new_w] = cv2.resize(image, (new_w, new_h), interpolation=interpolation)
    return canvas, scale


def pad_by_half(image: ByteArray) -> ByteArray:
    """Add black: half the height above and below, half the width at either side."""
    height, width = image.shape[:2]
    top, left = height // 2, width // 2
    return cv2.copyMakeBorder(image, top, top, left, left, cv2.BORDER_CONSTANT)  # type: ignore[return-value]


def cell_centres(*, height: int, width: int, stride: int, per_cell: int) -> FloatArray:
    """Centres ``[rows * columns * per_cell, 2]`` (x, y) in pixels, row by row."""
    rows, columns = height // stride, width // stride
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    centres = grid.reshape(-1, 1, 2).repeat(per_cell, axis=1).reshape(-1, 2)
    return np.asarray(centres * stride, np.float32)


def decode(outputs: list[FloatArray], *, height: int, width: int, threshold: float) -> Detections:
    """Nine raw outputs to faces at or above `threshold`, before suppression, unsorted."""
    boxes, landmarks, scores = [], [], []
    for level, stride in enumerate(STRIDES):
        score = outputs[level].reshape(-1)
        cells = (height // stride) * (width // stride)
        keep = np.flatnonzero(score >= threshold)
        centres = cell_centres(
            height=height, width=width, stride=stride, per_cell=len(score) // cells
        )[keep]
        distance = outputs[level + 3][keep] * stride
        boxes.append(np.hstack([centres - distance[:, :2], centres + distance[:, 2:]]))
        offsets = outputs[level + 6][keep].reshape(-1, 5, 2) * stride
        landmarks.append(centres[:, None] + offsets)
        scores.append(score[keep])
    return Detections(np.concatenate(boxes), np.concatenate(landmarks), np.concatenate(scores))


def iou_matrix(left: FloatArray, right: FloatArray) -> FloatArray:
    """Intersection over union of boxes ``[N,4]`` and ``[M,4]`` xyxy: ``[N,M]``, 0-1."""
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=2)
    area_left = np.clip(left[:, 2:] - left[:, :2], 0, None).prod(axis=1)
    area_right = np.clip(right[:, 2:] - right[:, :2], 0, None).prod(axis=1)
    union = area_left[:, None] + area_right[None, :] - overlap
    return np.asarray(overlap / np.maximum(union, 1e-9), np.float32)


def suppress(found: Detections, *, iou: float = NMS_IOU) -> Detections:
    """Greedy suppression: the best score stays, what overlaps it by more than `iou` goes."""
    order = np.argsort(-found.scores, kind="stable")
    overlaps = iou_matrix(found.boxes, found.boxes)
    alive = np.ones(len(found), bool)
    kept = []
    for index in order:
        if not alive[index]:
            continue
        kept.append(index)
        alive &= overlaps[index] <= iou
    return found.select(np.array(kept, np.intp))


def averaged(faces: Detections, rows: Detections) -> Detections:
    """`faces` with landmarks averaged, by score, over the `rows` whose boxes lie near theirs.

    As `tools.importing.graph.average_landmarks` does in a graph; a face that has no such row keeps
    its own.
    """
    weights = (iou_matrix(faces.boxes, rows.boxes) > NEAR) * rows.scores
    total = weights.sum(axis=1)[:, None, None]
    mean = np.tensordot(weights, rows.landmarks, 1) / np.maximum(total, 1e-9)
    landmarks = np.where(total > 0, mean, faces.landmarks).astype(np.float32)
    return Detections(faces.boxes, landmarks, faces.scores)


class RawDetector:
    """A network in SCRFD's raw layout that processes whole images.

    Landmarks are averaged and refined if the file enables it; with `refines` false they are never
    refined.
    """

    def __init__(self, path: Path, *, refines: bool = True) -> None:
        self._session = open_session(path)
        self._input = self._session.get_inputs()[0].name
        said = self._session.get_modelmeta().custom_metadata_map.get(PROPERTY)
        self._averages = said in (AVERAGED, REFINED)
        self._refines = refines and said == REFINED
        names = [output.name for output in self._session.get_outputs()]
        self._names = [name for name in names if name != REFINED_POINTS]

    def outputs(self, blob: FloatArray) -> list[FloatArray]:
        """Compute the nine raw outputs for ``[1,3,H,W]`` (`to_blob`)."""
        return [np.asarray(out) for out in self._session.run(self._names, {self._input: blob})]

    def detect(
        self, image: ByteArray, *, size: int, threshold: float = DEFAULT_THRESHOLD
    ) -> Detections:
        """Faces of ``[H,W,3]`` uint8 RGB, letterboxed into `size`, in the image's own pixels."""
        canvas, scale = letterbox(image, size)
        rows = decode(self.outputs(to_blob(canvas)), height=size, width=size, threshold=threshold)
        found = suppress(rows)
        if self._averages:
            found = averaged(found, rows)
        if self._refines and len(found):
            found = self._refined(found, canvas)
        return found.moved(scale=1 / scale, dx=0, dy=0)

    def _refined(self, faces: Detections, canvas: ByteArray) -> Detections:
        """Replace the landmarks of a canvas's faces by those of the file's second network."""
        frames = frames_of(faces.boxes, faces.landmarks)
        crops = (cut(canvas, frames) - 127.5) / 128
        feed = {
            self._input: np.zeros(
                (1, 3, *_LEAST), np.float32
            ),  # the first network needs an input, too
            FACES: np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32),
            POINTS: frames.inward(faces.landmarks).reshape(-1, 10),
        }
        points = np.asarray(self._session.run([REFINED_POINTS], feed)[0], np.float32)
        landmarks = frames.outward(points.reshape(-1, 5, 2))
        return Detections(faces.boxes, landmarks, faces.scores)

    def detect_padded(
        self, image: ByteArray, *, size: int, threshold: float = DEFAULT_THRESHOLD
    ) -> Detections:
        """Detect on the image padded by half its size, which finds faces that fill the frame."""
        height, width = image.shape[:2]
        found = self.detect(pad_by_half(image), size=size, threshold=threshold)
        return found.moved(scale=1, dx=-(width // 2), dy=-(height // 2))

    def detect_twice(self, image: ByteArray, *, threshold: float = DEFAULT_THRESHOLD) -> Detections:
        """Both passes of the project's pipeline, merged: 640 as it is, 320 padded by half."""
        whole = self.detect(image, size=640, threshold=threshold)
        padded = self.detect_padded(image, size=320, threshold=threshold)
        return suppress(
            Detections(
                np.concatenate([whole.boxes, padded.boxes]),
                np.concatenate([whole.landmarks, padded.landmarks]),
                np.concatenate([whole.scores, padded.scores]),
            )
        )
