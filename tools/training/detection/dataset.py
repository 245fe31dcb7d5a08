"""Photos and their labels for training the detector, cached once and memory-mapped.

The teacher labels every face photo, padded by half its size since most of these faces fill the
frame; one clean face is kept per photo. Scenes are labelled at 640, plain and padded. A scene
without detections even at a low threshold is face-free: it serves as background and for counting
false alarms.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tools.evaluation.held_out import (
    HELD_OUT_SCENES,
    HELD_OUT_SHARE,
    hash_share,
    mebeauty_test_names,
    read_images,
)
from tools.training.detection.scrfd import ByteArray, Detections, FloatArray, RawDetector

SOURCES = ("fairface_val_144px", "utkface_128px", "mebeauty_336px")
SCENES = "scenes_320px"
FACE_SIZE = 256  # edge of the letterboxed padded photo for the teacher
SCENE_THRESHOLD = 0.15  # lowest confidence of a stored detection in a scene
FACE_FREE_BELOW = 0.35  # a scene with a lower best score is face-free
SURE_ABOVE = 0.6  # from here on a detection is a label; below, neither face nor background


@dataclass(frozen=True, slots=True)
class FacePhotos:
    """Photos with one clean face each.

    pixels: flat uint8, photo i is ``pixels[starts[i]:starts[i+1]]`` as ``[h,w,3]`` RGB;
    shapes: ``[N,2]`` int32 (h, w); boxes ``[N,4]`` and landmarks ``[N,5,2]`` float32 in the
    photo's pixels; scores ``[N]`` of the teacher; source ``[N]`` int8, index into `SOURCES`;
    held_out ``[N]`` bool.
    """

    pixels: ByteArray
    starts: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int32]
    boxes: FloatArray
    landmarks: FloatArray
    scores: FloatArray
    source: npt.NDArray[np.int8]
    held_out: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.shapes)

    def photo(self, index: int) -> ByteArray:
        """Photo `index`, ``[h,w,3]`` uint8 RGB."""
        height, width = self.shapes[index]
        flat = self.pixels[self.starts[index] : self.starts[index + 1]]
        return np.asarray(flat).reshape(height, width, 3)


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene ``[h,w,3]`` uint8 RGB, the teacher's detections in it, whether it is held out."""

    name: str
    image: ByteArray
    seen: Detections
    held_out: bool

    @property
    def faces(self) -> Detections:
        """What is a face for sure."""
        return self.seen.select(self.seen.scores >= SURE_ABOVE)

    @property
    def doubtful(self) -> Detections:
        """Detections that are neither labels nor background."""
        scores = self.seen.scores
        return self.seen.select((scores >= FACE_FREE_BELOW) & (scores < SURE_ABOVE))

    @property
    def face_free(self) -> bool:
        """Whether the teacher detected no face even at a low threshold."""
        return bool(np.all(self.seen.scores < FACE_FREE_BELOW))


def decode_image(data: bytes) -> ByteArray | None:
    """``[H,W,3]`` uint8 RGB, or None if the bytes are not an image."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if image is None else np.ascontiguousarray(image[..., ::-1])


def is_clean(found: Detections, shape: tuple[int, int]) -> int | None:
    """Return the index of the photo's only face; None if that is unclear.

    Clear: score of 0.6 or more, no second face of a quarter of its area or more, and at least
    a tenth of the photo's height.
    """
    if len(found) == 0:
        return None
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    best = int(np.argmax(areas))
    others = np.delete(areas, best)
    if found.scores[best] < 0.6 or (len(others) and others.max() >= areas[best] / 4):
        return None
    x1, y1, x2, y2 = found.boxes[best]
    if min(x2 - x1, y2 - y1) < shape[0] / 10:
        return None
    return best


def label_source(tar: Path, teacher: RawDetector, cache: Path) -> None:
    """Label one tar file of face photos into ``cache/<stem>.npz`` and ``.pixels.npy``.

    A source with a complete cache is skipped, so that an interrupted run resumes.
    """
    target = cache / f"{tar.stem}.npz"
    if target.exists():
        return
    test = mebeauty_test_names(tar) if tar.stem.startswith("mebeauty") else frozenset()
    pixels, shapes, boxes, landmarks, scores, held = [], [], [], [], [], []
    for name, data in read_images(tar):
        image = decode_image(data)
        if image is None:
            continue
        found = teacher.detect_padded(image, size=FACE_SIZE, threshold=0.4)
        best = is_clean(found, image.shape[:2])  # type: ignore[arg-type]
        if best is None:
            continue
        pixels.append(image.reshape(-1))
        shapes.append(image.shape[:2])
        boxes.append(found.boxes[best])
        landmarks.append(found.landmarks[best])
        scores.append(found.scores[best])
        in_test = "/".join(name.split("/")[-3:]) in test
        held.append(in_test or (not test and hash_share(name) < HELD_OUT_SHARE))
    np.save(cache / f"{tar.stem}.pixels.npy", np.concatenate(pixels))
    np.savez(
        target,
        shapes=np.array(shapes, np.int32),
        boxes=np.array(boxes, np.float32),
        landmarks=np.array(landmarks, np.float32),
        scores=np.array(scores, np.float32),
        held_out=np.array(held, bool),
    )


def load_faces(cache: Path, sources: tuple[str, ...] = SOURCES) -> list[FacePhotos]:
    """Load the labelled photos of every source that is in the cache; pixels stay on the disk."""
    found = []
    for index, stem in enumerate(sources):
        if not (cache / f"{stem}.npz").exists():
            continue
        with np.load(cache / f"{stem}.npz") as labels:
            shapes = labels["shapes"]
            sizes = shapes.astype(np.int64).prod(axis=1) * 3
            found.append(
                FacePhotos(
                    pixels=np.load(cache / f"{stem}.pixels.npy", mmap_mode="r"),
                    starts=np.concatenate([[0], np.cumsum(sizes)]),
                    shapes=shapes,
                    boxes=labels["boxes"],
                    landmarks=labels["landmarks"],
                    scores=labels["scores"],
                    source=np.full(len(shapes), index, np.int8),
                    held_out=labels["held_out"],
                )
            )
    return found


def label_scenes(tar: Path, teacher: RawDetector) -> list[Scene]:
    """Return all scenes with the teacher's faces of both passes (`detect_twice`)."""
    scenes = []
    for name, data in read_images(tar):
        image = decode_image(data)
        if image is None:
            continue
        seen = teacher.detect_twice(image, threshold=SCENE_THRESHOLD)
        scenes.append(
            Scene(
                name=name,
                image=image,
                seen=seen,
                held_out=hash_share(name) < HELD_OUT_SCENES,
            )
        )
    return scenes


def save_scenes(scenes: list[Scene], path: Path) -> None:
    """Write labelled scenes to one ``.npz``."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "names": np.array([scene.name for scene in scenes]),
        "held_out": np.array([scene.held_out for scene in scenes]),
    }
    for index, scene in enumerate(scenes):
        arrays[f"image{index}"] = scene.image
        seen = scene.seen
        arrays[f"seen{index}"] = np.hstack(
            [seen.boxes, seen.landmarks.reshape(-1, 10), seen.scores[:, None]]
        )
    np.savez(path, **arrays)


def load_scenes(path: Path) -> list[Scene]:
    """Load the scenes that `save_scenes` wrote."""

    def unpack(rows: FloatArray) -> Detections:
        rows = rows.astype(np.float32)
        return Detections(rows[:, :4], rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14])

    with np.load(path) as arrays:
        return [
            Scene(
                name=str(name),
                image=arrays[f"image{index}"],
                seen=unpack(arrays[f"seen{index}"]),
                held_out=bool(arrays["held_out"][index]),
            )
            for index, name in enumerate(arrays["names"])
        ]


def prepare(*, data: Path, teacher: Path, cache: Path) -> None:
    """Label everything under `data` with the network `teacher` into `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    detector = RawDetector(teacher)
    if not (cache / "scenes.npz").exists():
        save_scenes(label_scenes(data / f"{SCENES}.tar", detector), cache / "scenes.npz")
    for stem in reversed(SOURCES):  # the smallest first
        label_source(data / f"{stem}.tar", detector, cache)
