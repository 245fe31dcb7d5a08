"""Evaluation of the lite detector with ONNX Runtime, in the same way as the teacher's.

Both networks process every image twice, as the pipeline does: letterboxed into 640, and padded by
half into 320. Faces count from 24 pixels (root of the box's area) in the 640 frame.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tools.training.detection.compose import Composer
from tools.training.detection.dataset import (
    SOURCES,
    FacePhotos,
    Scene,
    decode_image,
    load_faces,
    load_scenes,
)
from tools.training.detection.scrfd import (
    ByteArray,
    Detections,
    RawDetector,
    iou_matrix,
    open_session,
)
from tools.training.detection.splits import Split
from tools.training.detection.stability import steady_faces

SMALLEST = 24.0
FRAME = 640
MATCH_IOU = 0.5


@dataclass(slots=True)
class Agreement:
    """Agreement of one detector with another."""

    faces: int = 0
    found: int = 0
    sure_faces: int = 0
    sure_found: int = 0
    extra: int = 0
    images: int = 0
    images_with_face: int = 0
    landmark_errors: list[float] = field(default_factory=list)
    eye_distances: list[float] = field(default_factory=list)

    def add(self, reference: Detections, answer: Detections, *, scale: float) -> None:
        """Count one image; `scale` converts its pixels to the 640 frame."""
        self.images += 1
        self.images_with_face += int(len(answer) > 0)
        sizes = np.sqrt((reference.boxes[:, 2:] - reference.boxes[:, :2]).prod(axis=1)) * scale
        overlaps = iou_matrix(reference.boxes, answer.boxes)
        for index in np.flatnonzero(sizes >= SMALLEST):
            hit = overlaps.shape[1] > 0 and overlaps[index].max() >= MATCH_IOU
            sure = reference.scores[index] >= 0.6
            self.faces += 1
            self.found += int(hit)
            self.sure_faces += int(sure)
            self.sure_found += int(sure and hit)
            if hit:
                points = answer.landmarks[overlaps[index].argmax()]
                truth = reference.landmarks[index]
                eyes = float(np.linalg.norm(truth[1] - truth[0]))
                error = np.linalg.norm(points - truth, axis=1).mean()
                # a profile's eyes coincide: their distance is no unit
                if eyes * scale >= 4:
                    self.landmark_errors.append(float(error) / eyes)
                    self.eye_distances.append(eyes * scale)
        if overlaps.shape[1]:
            best = overlaps.max(axis=0) if len(reference) else np.zeros(overlaps.shape[1])
            self.extra += int((best < 0.3).sum())

    def include(self, other: "Agreement") -> None:
        """Add the counts of `other`."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def report(self) -> dict[str, float]:
        """Shares 0-1; landmark error in eye distances.

        The errors' sum is divided by the distances' sum, so that a profile, whose eyes are close
        together, has the weight of its own distance.
        """
        errors, distances = np.array(self.landmark_errors), np.array(self.eye_distances)
        return {
            "images": self.images,
            "faces": self.faces,
            "recall": self.found / max(1, self.faces),
            "faces_sure": self.sure_faces,
            "recall_sure": self.sure_found / max(1, self.sure_faces),
            "landmark_error_mean": float(np.mean(self.landmark_errors or [np.nan])),
            "landmark_error_median": float(np.median(self.landmark_errors or [np.nan])),
            "landmark_error_pooled": float((errors * distances).sum() / max(distances.sum(), 1e-9)),
            "unmatched_detections": self.extra,
            "images_with_face": self.images_with_face / max(1, self.images),
        }


class Comparison:
    """A comparison of teacher, student and peer over any number of pictures.

    Student and peer are compared with the teacher's faces, the student with the peer's, and all
    three (also the teacher) with the teacher's stable faces (`steady_faces`). All detect in the
    pipeline's two passes.
    """

    def __init__(self) -> None:
        self._student, self._peer, self._of_peer = Agreement(), Agreement(), Agreement()
        self._steady = {who: Agreement() for who in ("student", "peer", "teacher")}

    def look(
        self, image: ByteArray, *, teacher: RawDetector, student: RawDetector, peer: RawDetector
    ) -> None:
        """Run all three on one picture, ``[H,W,3]`` uint8 RGB."""
        scale = FRAME / max(image.shape[:2])
        reference, answer, other = (
            network.detect_twice(image) for network in (teacher, student, peer)
        )
        self._student.add(reference, answer, scale=scale)
        self._peer.add(reference, other, scale=scale)
        self._of_peer.add(other, answer, scale=scale)
        sure = steady_faces(teacher, image)
        for agreement, found in zip(self._steady.values(), (answer, other, reference), strict=True):
            agreement.add(sure, found, scale=scale)

    def include(self, other: "Comparison") -> None:
        """Add the counts of `other`."""
        for mine, theirs in zip(self._all(), other._all(), strict=True):
            mine.include(theirs)

    def _all(self) -> list[Agreement]:
        return [self._student, self._peer, self._of_peer, *self._steady.values()]

    def report(self) -> dict[str, Any]:
        """Return the student's agreement (`Agreement.report`), and the others' by name."""
        return {
            **self._student.report(),
            "peer": self._peer.report(),
            "of_peer": self._of_peer.report(),
            "steady": {who: agreement.report() for who, agreement in self._steady.items()},
        }


def composed_images(
    faces: list[FacePhotos], scenes: list[Scene], *, count: int, part: Split
) -> list[ByteArray]:
    """Return held-out composed scenes of 640 pixels, always the same ones.

    Both parts use the same held-out photos and scenes with different seeds.
    """
    composer = Composer(faces, scenes, held_out=True)
    rng = np.random.default_rng(part.composed_seed)
    return [composer.sample(rng, FRAME).image for _ in range(count)]


def held_out_photos(photos: FacePhotos, *, at_most: int, part: Split) -> list[ByteArray]:
    """Held-out photos of one source and part, evenly spread over it."""
    rows = part.of(np.flatnonzero(photos.held_out))
    step = max(1, len(rows) // at_most)
    return [photos.photo(int(row)) for row in rows[::step][:at_most]]


def false_alarms(scenes: list[Scene], detector: RawDetector) -> dict[str, float]:
    """Count detections in held-out scenes without faces, at the default threshold."""
    empty = [scene for scene in scenes if scene.held_out and scene.face_free]
    counts = [len(detector.detect_twice(scene.image)) for scene in empty]
    return {
        "scenes": len(empty),
        "alarms": int(np.sum(counts)),
        "alarms_per_100_scenes": 100 * float(np.mean(counts)),
        "scenes_with_alarm": int(np.count_nonzero(counts)),
    }


def alternate_times(
    models: dict[str, Path], *, size: int = FRAME, rounds: int = 40
) -> dict[str, dict[str, float]]:
    """Measure milliseconds per image on one thread, alternating models, after a warm-up."""
    calls: dict[str, Callable[[], object]] = {}
    blob = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    for name, path in models.items():
        session = open_session(path)
        feed = {session.get_inputs()[0].name: blob}
        calls[name] = partial(session.run, None, feed)
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 5):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn >= 5:
                times[name].append((time.perf_counter() - begin) * 1e3)
    return {
        name: {
            "median_ms": float(np.median(values)),
            "min_ms": float(np.min(values)),
            "p95_ms": float(np.percentile(values, 95)),
        }
        for name, values in times.items()
    }


def count_faces(path: Path, detector: RawDetector) -> int:
    """Count the faces in one photo: one pass at 640 and the default threshold."""
    image = decode_image(path.read_bytes())
    if image is None:
        raise ValueError(f"{path}: not an image")
    return len(detector.detect(image, size=FRAME))


def evaluate(
    *,
    student: Path,
    teacher: Path,
    peer: Path,
    cache: Path,
    group_photo: Path | None,
    composed: int = 300,
    photos: int = 300,
    part: Split = Split.LAST_WORD,
) -> dict[str, Any]:
    """Measure every goal, on at most `photos` per source.

    There are too few held-out photographed scenes for two parts: both parts use the same.

    teacher: the reference, whose labels were learnt; peer: a network of the student's size trained
    on real scenes and measured in the same way, since no two networks agree completely.
    """
    cv2.setNumThreads(1)
    faces, scenes = load_faces(cache), load_scenes(cache / "scenes.npz")
    ours, theirs, other = RawDetector(student), RawDetector(teacher), RawDetector(peer)
    held_out = {
        "composed": composed_images(faces, scenes, count=composed, part=part),
        "people_scenes": [s.image for s in scenes if s.held_out and not s.face_free],
        **{
            SOURCES[photos_of.source[0]]: held_out_photos(photos_of, at_most=photos, part=part)
            for photos_of in faces
        },
    }
    report: dict[str, Any] = {"part": part.value}
    together = Comparison()
    for name, images in held_out.items():
        comparison = Comparison()
        for image in images:
            comparison.look(image, teacher=theirs, student=ours, peer=other)
        together.include(comparison)
        report[name] = comparison.report()
    report["together"] = together.report()
    report["false_alarms"] = false_alarms(scenes, ours)
    report["false_alarms_peer"] = false_alarms(scenes, other)
    if group_photo is not None:
        report["group_photo_faces"] = count_faces(group_photo, ours)
    report["time_640"] = alternate_times({"student": student, "peer": peer})
    report["bytes"] = student.stat().st_size
    return report
