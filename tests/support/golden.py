"""The upstream reference: insightface, run in an environment of its own."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from tests.support import photos
from tools.importing.network import load_network
from tools.importing.stages import arcface, scrfd
from tools.registry.prepared import Prepared
from triton_python_backend.contract import DETECTION
from triton_python_backend.decoding import Picture, Pixels, decode
from triton_python_backend.preprocess import make_closeup, make_frame

DETECTORS = ("det_500m", "scrfd_2.5g_bnkps")
EMBEDDER = "mobilefacenet_arcface_128"
Found = TypeVar("Found")
SCRIPT = photos.CHECKOUT / "tests" / "golden" / "insightface_reference.py"
_TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one canvas, in its pixels; crops and embeddings only from the reference."""

    boxes: npt.NDArray[Any]
    landmarks: npt.NDArray[Any]
    confidence: npt.NDArray[Any]
    crops: npt.NDArray[Any] | None = None
    embeddings: npt.NDArray[Any] | None = None


class Detector:
    """An imported detector, run by onnxruntime."""

    def __init__(self, prepared: Prepared) -> None:
        self._session = session(prepared)

    def __call__(self, canvases: npt.NDArray[Any]) -> list[Faces]:
        names = [tensor.name for tensor in DETECTION.outputs[:3]]
        rows = zip(*self._session.run(names, {"CANVAS": canvases}), strict=True)
        return [
            Faces(boxes[scores > 0], landmarks[scores > 0], scores[scores > 0])
            for boxes, landmarks, scores in rows
        ]


def session(prepared: Prepared) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(prepared.graph, options, providers=["CPUExecutionProvider"])


def import_detector(name: str) -> Detector:
    path = photos.models_folder() / f"{name}.onnx"
    return Detector(scrfd.prepare(load_network(path)))


def import_embedder() -> onnxruntime.InferenceSession:
    path = photos.models_folder() / f"{EMBEDDER}.onnx"
    return session(arcface.prepare(load_network(path)))


def interpreter() -> Path:
    """The Python that has insightface, or skip."""
    default = photos.CHECKOUT / ".venv-golden" / "bin" / "python"
    path = Path(os.environ.get("AURUM_TEST_GOLDEN_PYTHON", default))
    if not path.is_file():
        pytest.skip(f"{path} is no interpreter with insightface (AURUM_TEST_GOLDEN_PYTHON)")
    return path


def require(find: Callable[[], Found]) -> Found:
    """Call `find`; where golden tests were asked for, what is missing fails instead of skipping."""
    try:
        return find()
    except pytest.skip.Exception as missing:
        if "golden" in os.environ.get("AURUM_TEST_REQUIRE", "").split(","):
            pytest.fail(f"golden tests were asked for: {missing.msg}")
        raise


def make_all_canvases() -> dict[str, npt.NDArray[Any]]:
    """Canvases of both sizes: a group photo, the portrait and padded photos in the wild."""
    interpreter()
    found = {}
    for name, data in (
        ("group", photos.group_photo()),
        ("portrait", photos.encode(photos.portrait())),
    ):
        found[f"{name}-frame"] = frame(decode(data))
    for number, (_, data) in enumerate(photos.portraits_in_the_wild(every=300, most=8)):
        pixels = decode(data)
        height, width = (size // 2 for size in pixels.shape[:2])
        padded = cv2.copyMakeBorder(pixels, height, height, width, width, cv2.BORDER_CONSTANT)
        found[f"wild{number}-frame"] = frame(np.asarray(padded, np.uint8))
        found[f"wild{number}-closeup"] = square(make_closeup(Picture.whole(pixels))[0], 320)
    found["nothing-frame"] = np.zeros((640, 640, 3), np.uint8)
    return found


def cuts_of_any_size() -> dict[str, Pixels]:
    """Parts of the group photo, most with edges that the canvas fits with rounding only."""
    interpreter()
    pixels = decode(photos.group_photo())
    sizes = ((1001, 667), (667, 883), (1279, 851), (1171, 640), (1023, 880), (1280, 886))
    return {
        f"photo{width}x{height}": np.ascontiguousarray(pixels[-height:, -width:])
        for width, height in sizes
    }


def large_photo() -> bytes:
    """The group photo as a JPEG of 12 megapixels with an odd edge; decoded at half its size."""
    small = decode(photos.group_photo())[..., ::-1]
    large = cv2.resize(small, (4240, 2935), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def frame(pixels: Pixels) -> Pixels:
    """The detector's canvas as insightface makes it: 640 x 640, black beyond the picture."""
    return square(make_frame(Picture.whole(pixels))[0], 640)


def square(canvas: Pixels, edge: int) -> Pixels:
    """Add black at the right and below."""
    height, width = canvas.shape[:2]
    return np.pad(canvas, ((0, edge - height), (0, edge - width), (0, 0)))


def ask_insightface(
    canvases: dict[str, npt.NDArray[Any]], folder: Path
) -> dict[tuple[str, str], Faces]:
    """Faces by detector and canvas, as insightface finds them."""
    models = photos.models_folder()
    np.savez(folder / "canvases.npz", **canvases)
    command: list[str | Path] = [
        *(interpreter(), SCRIPT, folder / "canvases.npz"),
        *(models / f"{EMBEDDER}.onnx", folder / "answers.npz"),
        *(f"{name}={models / name}.onnx" for name in DETECTORS),
    ]
    finished = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    assert finished.returncode == 0, finished.stderr
    answers = np.load(folder / "answers.npz")

    def faces(prefix: str) -> Faces:
        kinds = ("boxes", "landmarks", "confidence", "crops", "embeddings")
        return Faces(*(answers.get(f"{prefix}/{kind}") for kind in kinds))

    return {(name, key): faces(f"{name}/{key}") for name in DETECTORS for key in canvases}
