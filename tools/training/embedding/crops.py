"""Aligned face crops with the teacher's embeddings, cached once as memory-mapped arrays.

Photos come from tar files (FairFace, UTKFace, MEBeauty). Most of their faces fill the frame, so
each photo is padded by half its size before the teacher's detector processes it at 320 px. Crops
are larger than the networks' 112 px: `CROP` pixels with the ArcFace template in the centre, so that
a jittered view contains real pixels only.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tools.evaluation.views import CROP, VIEW
from tools.training.common import progress

MARGIN = (CROP - VIEW) // 2

TEMPLATE: NDArray[np.float32] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    np.float32,
)
"""[5,2] float32, pixels of the 112 px view (ArcFace, insightface's `arcface_dst`)."""

FAIRFACE, UTKFACE, MEBEAUTY = "fairface_val_144px.tar", "utkface_128px.tar", "mebeauty_336px.tar"
UTK_RACES = ("white", "black", "asian", "indian", "other")
FAIR_RACES = {
    "White": "white",
    "Black": "black",
    "Indian": "indian",
    "East Asian": "asian",
    "Southeast Asian": "asian",
    "Middle Eastern": "other",
    "Latino_Hispanic": "other",
}

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of a tar file with its labels."""

    source: str
    file: str
    gender: str
    race: str
    age: str
    split: str
    rating: float
    """Mean rating 1-10; NaN if the set has none."""
    group: str
    """MEBeauty's ethnic group, as the path names it; empty elsewhere."""


class TeacherDetector:
    """SCRFD with landmarks on one image; keeps the most central large face."""

    def __init__(self, path: Path, *, side: int = 320, threshold: float = 0.4) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = (
            3  # no warnings: the file declares the shapes of another input size
        )
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._side = side
        self._threshold = threshold

    def landmarks(self, image: Image) -> NDArray[np.float32] | None:
        """Five points of the main face.

        Args:
            image: [H,W,3] uint8 RGB.

        Returns:
            [5,2] float32, pixels of `image`; None where no face passes the threshold.
        """
        height, width = image.shape[:2]
        pad_y, pad_x = height // 2, width // 2
        padded = cv2.copyMakeBorder(image, pad_y, pad_y, pad_x, pad_x, cv2.BORDER_CONSTANT)
        scale = self._side / max(padded.shape[:2])
        small = cv2.resize(padded, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        board = np.zeros((self._side, self._side, 3), np.uint8)
        rows, columns = min(small.shape[0], self._side), min(small.shape[1], self._side)
        board[:rows, :columns] = small[:rows, :columns]
        blob = ((board.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
        outputs = self._session.run(None, {self._input: np.ascontiguousarray(blob)})
        scores, boxes, points = _decode(outputs, self._side)
        keep = scores >= self._threshold
        if not keep.any():
            return None
        scores, boxes, points = scores[keep], boxes[keep], points[keep]
        extent = boxes[:, 2:] - boxes[:, :2]
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        middle = np.array([padded.shape[1], padded.shape[0]]) * scale / 2
        away = ((centre - middle) ** 2).sum(1)
        best = int(np.argmax((extent.prod(1) - 2 * away) * scores))
        found: NDArray[np.float32] = points[best] / scale - np.array([pad_x, pad_y], np.float32)
        return found.astype(np.float32)


def _decode(
    outputs: list[NDArray[np.float32]], side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """SCRFD's flattened heads (two anchors per cell) -> scores [A], boxes [A,4], points [A,5,2]."""
    scores, boxes, points = [], [], []
    for level, stride in enumerate((8, 16, 32)):
        cells = side // stride
        grid = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2)
        anchor = np.repeat(grid * stride, 2, axis=0).astype(np.float32)
        distance = outputs[level + 3] * stride
        scores.append(outputs[level].reshape(-1))
        boxes.append(np.concatenate([anchor - distance[:, :2], anchor + distance[:, 2:]], 1))
        points.append(anchor[:, None] + (outputs[level + 6] * stride).reshape(-1, 5, 2))
    return np.concatenate(scores), np.concatenate(boxes), np.concatenate(points)


def similarity_transform(
    source: NDArray[np.float32], target: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Least-squares similarity (Umeyama 1991) of two [N,2] point sets as a [2,3] matrix."""
    mean_s, mean_t = source.mean(0), target.mean(0)
    centred_s, centred_t = source - mean_s, target - mean_t
    u, d, vt = np.linalg.svd(centred_t.T @ centred_s / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / centred_s.var(0).sum()
    matrix = np.hstack([scale * rotation, (mean_t - scale * rotation @ mean_s)[:, None]])
    return matrix.astype(np.float32)


def align(image: Image, landmarks: NDArray[np.float32]) -> Image:
    """[H,W,3] uint8 -> [CROP,CROP,3] uint8 with the template in the middle; black outside."""
    matrix = similarity_transform(landmarks, TEMPLATE + MARGIN)
    # A photo much larger than the crop would alias under bilinear sampling alone.
    shrink = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if shrink < 0.5:
        factor = shrink * 2
        shrunk = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        image = np.asarray(shrunk, np.uint8)
        matrix = similarity_transform(landmarks * factor, TEMPLATE + MARGIN)
    crop = cv2.warpAffine(image, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR)
    return np.asarray(crop, np.uint8)


def read_photos(data: Path) -> Iterator[tuple[Photo, bytes]]:
    """Yield every labelled photo of the three sets in a fixed order, with its JPEG bytes."""
    for name, labelled in ((MEBEAUTY, _mebeauty), (FAIRFACE, _fairface), (UTKFACE, _utkface)):
        with tarfile.open(data / name) as archive:
            yield from labelled(archive)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file of the archive")
    return file.read()


def _rows(archive: tarfile.TarFile, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_member(archive, name).decode())))


def _mebeauty(archive: tarfile.TarFile) -> Iterator[tuple[Photo, bytes]]:
    """Yield rated photos, without the 35 rows whose photo is not in the set."""
    present = set(archive.getnames())
    for split in ("train", "val", "test"):
        for row in _rows(archive, f"mebeauty/{split}.csv"):
            name = f"mebeauty/images/{row['image']}"
            if name not in present:
                continue
            sex, group, _ = row["image"].split("/", 2)
            photo = Photo("mebeauty", row["image"], sex, "", "", split, float(row["score"]), group)
            yield photo, _member(archive, name)


def _fairface(archive: tarfile.TarFile) -> Iterator[tuple[Photo, bytes]]:
    for row in _rows(archive, "fairface_val/labels.csv"):
        name = "fairface_val/" + row["file"].rsplit("/", 1)[-1]
        photo = Photo(
            "fairface",
            name,
            row["gender"].lower(),
            FAIR_RACES[row["race"]],
            row["age"],
            "",
            float("nan"),
            "",
        )
        yield photo, _member(archive, name)


def _utkface(archive: tarfile.TarFile) -> Iterator[tuple[Photo, bytes]]:
    for name in sorted(n for n in archive.getnames() if n.endswith(".jpg")):
        parts = name.rsplit("/", 1)[-1].split("_")
        age = f"{int(parts[0]) // 10 * 10}s" if parts[0].isdigit() else ""
        gender = {"0": "male", "1": "female"}.get(parts[1], "")
        # A few file names have no race field.
        race = UTK_RACES[int(parts[2])] if len(parts) == 4 and parts[2] in "01234" else ""
        photo = Photo("utkface", name, gender, race, age, "", float("nan"), "")
        yield photo, _member(archive, name)


def build_crops(*, data: Path, detector: Path, cache: Path, part: int = 0, parts: int = 1) -> int:
    """Detects and aligns every `parts`-th photo; writes `crops-P.npy` and `photos-P.json`.

    Returns:
        The number of faces written.
    """
    cache.mkdir(parents=True, exist_ok=True)
    teacher = TeacherDetector(detector)
    crops: list[Image] = []
    photos: list[dict[str, object]] = []
    missed = 0
    with progress() as bar:
        task = bar.add_task(f"crops {part + 1}/{parts}", total=None)
        for index, (photo, encoded) in enumerate(read_photos(data)):
            if index % parts != part:
                continue
            bar.advance(task)
            decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
            image = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
            points = teacher.landmarks(image)
            if points is None:
                missed += 1
                continue
            crops.append(align(image, points))
            photos.append(asdict(photo) | {"index": index})
    np.save(cache / f"crops-{part}.npy", np.stack(crops))
    (cache / f"photos-{part}.json").write_text(json.dumps({"photos": photos, "missed": missed}))
    return len(crops)


def merge_crops(*, cache: Path, parts: int) -> int:
    """Joins the parts in the photos' order: `crops.npy` [M,CROP,CROP,3], `photos.json`."""
    listed = [json.loads((cache / f"photos-{part}.json").read_text()) for part in range(parts)]
    arrays = [np.load(cache / f"crops-{part}.npy", mmap_mode="r") for part in range(parts)]
    entries = sorted(
        (photo["index"], part, row)
        for part, one in enumerate(listed)
        for row, photo in enumerate(one["photos"])
    )
    shape = (len(entries), CROP, CROP, 3)
    whole = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        cache / "crops.npy", "w+", np.uint8, shape
    )
    for target, (_, part, row) in enumerate(entries):
        whole[target] = arrays[part][row]
    whole.flush()
    photos = [listed[part]["photos"][row] for _, part, row in entries]
    missed = sum(one["missed"] for one in listed)
    (cache / "photos.json").write_text(json.dumps({"photos": photos, "missed": missed}))
    return len(entries)


def normalise(crops: Image) -> NDArray[np.float32]:
    """[N,H,W,3] uint8 RGB -> [N,3,112,112] float32 in -1..1; larger crops: their centre."""
    edge = (crops.shape[1] - VIEW) // 2
    middle = crops[:, edge : edge + VIEW, edge : edge + VIEW]
    return np.ascontiguousarray(((middle.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2))


def embed(session: ort.InferenceSession, crops: Image) -> NDArray[np.float32]:
    """Unit-length embeddings [N,D] of crops [N,H,W,3] uint8 RGB by a raw ArcFace network."""
    raw = session.run(None, {session.get_inputs()[0].name: normalise(crops)})[0]
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), np.float32)


def open_session(path: Path, *, threads: int = 1) -> ort.InferenceSession:
    """An onnxruntime session on the CPU with a fixed number of threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def build_embeddings(*, cache: Path, teacher: Path, part: int = 0, parts: int = 1) -> None:
    """Writes `teacher-P.npy` [K,2,D] float32: clean and mirrored view of rows P::parts."""
    crops = np.load(cache / "crops.npy", mmap_mode="r")[part::parts]
    session = open_session(teacher)
    rows: list[NDArray[np.float32]] = []
    with progress() as bar:
        task = bar.add_task(f"teacher {part + 1}/{parts}", total=len(crops))
        for start in range(0, len(crops), 32):
            batch = np.asarray(crops[start : start + 32])
            views = [embed(session, batch), embed(session, batch[:, :, ::-1])]
            rows.append(np.stack(views, 1))
            bar.advance(task, len(batch))
    np.save(cache / f"teacher-{part}.npy", np.concatenate(rows))


def merge_embeddings(*, cache: Path, parts: int, name: str = "teacher") -> None:
    """Joins the parts into `NAME.npy` [M,2,D] float32, in the order of the crops."""
    arrays = [np.load(cache / f"{name}-{part}.npy") for part in range(parts)]
    whole = np.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), np.float32)
    for part, array in enumerate(arrays):
        whole[part::parts] = array
        (cache / f"{name}-{part}.npy").unlink()
    np.save(cache / f"{name}.npy", whole)


def prepare(*, data: Path, detector: Path, teacher: Path, cache: Path, processes: int = 1) -> int:
    """Builds crops and the teacher's embeddings in several processes; returns how many faces."""
    share = range(processes)
    with ProcessPoolExecutor(processes) as pool:
        waiting = [
            pool.submit(
                build_crops, data=data, detector=detector, cache=cache, part=part, parts=processes
            )
            for part in share
        ]
        for one in waiting:
            one.result()
        faces = merge_crops(cache=cache, parts=processes)
        asked = [
            pool.submit(build_embeddings, cache=cache, teacher=teacher, part=part, parts=processes)
            for part in share
        ]
        for done in asked:
            done.result()
    merge_embeddings(cache=cache, parts=processes)
    for part in share:
        for name in (f"crops-{part}.npy", f"photos-{part}.json"):
            (cache / name).unlink()
    return faces
