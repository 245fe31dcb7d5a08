"""Composed scenes: labelled face photos pasted into backgrounds, with transformed labels.

The network must not learn to detect pasting. So the pasted region varies (whole photo, feathered
rectangle, ellipse around the head), backgrounds without faces get pasted distractors of the same
shapes, and many scenes are complete real photos: letterboxed, zoomed, or padded by half.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tools.training.detection.augment import colour_jitter, degrade, framed, paste_mask, resized
from tools.training.detection.dataset import FacePhotos, Scene, load_faces, load_scenes
from tools.training.detection.distractors import with_distractors
from tools.training.detection.mosaic import Mosaics
from tools.training.detection.sample import (
    Sample,
    between_pixels,
    move_box,
    move_points,
    similarity,
)
from tools.training.detection.scrfd import ByteArray, FloatArray
from tools.training.detection.settings import TrainSettings

SMALLEST_FACE = 12.0  # pixels of the canvas; smaller ones are ignored
SMALLEST_PASTED = 16.0
TOO_LARGE = (
    1.15  # times the canvas: such a face is background, so that its parts do not pass for faces
)
LARGE_FACE = 110.0  # pixels; above, photos with pixels enough are preferred
LARGE_SHARES = (2.0, 1.5, 1.5)  # how often each of `SOURCES` is drawn, relative
SMALL_SHARES = (1.5, 1.5, 0.3)


class Canvas:
    """An image under composition, the faces pasted into it, and which face owns each pixel."""

    def __init__(self, image: ByteArray) -> None:
        self.image = image
        self._owner = np.full(image.shape[:2], -1, np.int16)
        self._boxes: list[FloatArray] = []
        self._points: list[FloatArray] = []
        self.ignored: list[FloatArray] = []

    def add_label(self, box: FloatArray, points: FloatArray) -> None:
        """Record a face of the image itself: it owns its box."""
        x1, y1, x2, y2 = np.maximum(box, 0).astype(int)
        self._owner[y1:y2, x1:x2] = len(self._boxes)
        self._boxes.append(box)
        self._points.append(points)

    def paste(self, patch: ByteArray, mask: FloatArray, matrix: FloatArray) -> None:
        """Blend `patch` through `mask` (``[h,w]``, 0-1) by the 2x3 `matrix` into the canvas."""
        size_y, size_x = self.image.shape[:2]
        height, width = patch.shape[:2]
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float32)
        moved = corners @ matrix[:, :2].T + matrix[:, 2]
        x1, y1 = np.clip(np.floor(moved.min(axis=0)), 0, [size_x, size_y]).astype(int)
        x2, y2 = np.clip(np.ceil(moved.max(axis=0)), 0, [size_x, size_y]).astype(int)
        if x2 <= x1 or y2 <= y1:
            return
        local = between_pixels(matrix)
        local[:, 2] -= (x1, y1)
        shape = (int(x2 - x1), int(y2 - y1))
        warped = cv2.warpAffine(patch, local, shape, borderMode=cv2.BORDER_REPLICATE)
        alpha = np.asarray(cv2.warpAffine(mask, local, shape), np.float32)
        region = self.image[y1:y2, x1:x2]
        region[:] = cv2.blendLinear(warped, region, alpha, 1 - alpha)
        self._owner[y1:y2, x1:x2][alpha > 0.5] = len(self._boxes)

    def paste_face(
        self,
        patch: ByteArray,
        mask: FloatArray,
        matrix: FloatArray,
        *,
        box: FloatArray,
        points: FloatArray,
    ) -> None:
        """Paste a photo with the labels of its face, in the photo's pixels."""
        self.paste(patch, mask, matrix)
        linear, offset = matrix[:, :2], matrix[:, 2]
        self._boxes.append(move_box(box, linear, offset))
        self._points.append(move_points(points, linear, offset))

    def paste_distractor(self, patch: ByteArray, mask: FloatArray, matrix: FloatArray) -> None:
        """Paste a patch without a face; it hides what is below."""
        self.paste(patch, mask, matrix)
        self._owner[self._owner == len(self._boxes)] = -1

    def _visible(self, index: int) -> float:
        """Return the visible share of the inner region of face `index`."""
        x1, y1, x2, y2 = self._boxes[index]
        dx, dy = (x2 - x1) * 0.15, (y2 - y1) * 0.15
        left, top = int(x1 + dx), int(y1 + dy)
        right, bottom = max(left + 1, int(x2 - dx)), max(top + 1, int(y2 - dy))
        inside = self._owner[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        return float((inside == index).sum()) / ((right - left) * (bottom - top))

    def finish(self) -> Sample:
        """Keep the labels of visible faces; half-hidden faces become regions to ignore."""
        boxes, points, ignored = [], [], list(self.ignored)
        for index, (box, landmarks) in enumerate(zip(self._boxes, self._points, strict=True)):
            visible = self._visible(index)
            size = np.sqrt((box[2:] - box[:2]).prod())
            if visible >= 0.5 and size >= SMALLEST_FACE:
                boxes.append(box)
                points.append(landmarks)
            elif visible >= 0.1 and size < TOO_LARGE * self.image.shape[0]:
                ignored.append(box)
        return Sample(
            image=self.image,
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            points=np.array(points, np.float32).reshape(-1, 5, 2),
            ignored=np.array(ignored, np.float32).reshape(-1, 4),
        )


class Composer:
    """Makes samples of ``size`` x ``size`` from labelled photos and scenes."""

    def __init__(
        self,
        faces: list[FacePhotos],
        scenes: list[Scene],
        *,
        held_out: bool,
        miniatures: float = 0.0,
        doodles: float = 0.0,
    ) -> None:
        """Use either the held-out photos and scenes or the others.

        miniatures: share of backgrounds with several scenes; doodles: share of backgrounds with
        drawn distractors.
        """
        self._miniatures, self._doodles = miniatures, doodles
        self._sources = [(photos, np.flatnonzero(photos.held_out == held_out)) for photos in faces]
        self._bounds = [self._shares(SMALL_SHARES), self._shares(LARGE_SHARES)]
        chosen = [scene for scene in scenes if scene.held_out == held_out]
        self._empty = [scene for scene in chosen if scene.face_free]
        self._peopled = [scene for scene in chosen if not scene.face_free]
        self.mosaics = Mosaics(self._peopled, self._empty, self._draw_photo)

    def _shares(self, shares: tuple[float, ...]) -> FloatArray:
        """Return the cumulative shares (0-1) of the sources."""
        weights = np.array([shares[int(photos.source[0])] for photos, _ in self._sources])
        return np.asarray(np.cumsum(weights / weights.sum())[:-1], np.float32)

    def sample(self, rng: np.random.Generator, size: int) -> Sample:
        """Make one scene of a random kind, degraded like a photo."""
        kind = rng.random()
        if kind < 0.36:
            canvas = self._crowd(rng, size)
        elif kind < 0.52:
            canvas = self._portrait(rng, size)
        elif kind < 0.62:
            canvas = self._people(rng, size)
        elif kind < 0.78:
            # about as large as the canvas, where there is a face or only a part of one
            canvas = self._close(rng, size, times=rng.uniform(0.5, 1.15 if kind < 0.71 else 2.5))
        else:
            canvas = Canvas(self._background(rng, size))
            if rng.random() < 0.3:
                canvas = Canvas(framed(canvas.image, rng))
            if rng.random() < 0.5:
                self._distract(rng, canvas, int(rng.integers(1, 6)))
        sample = canvas.finish()
        return replace(sample, image=degrade(sample.image, rng))

    def portrait(self, rng: np.random.Generator, size: int) -> Sample:
        """Make a scene of one complete photo, degraded, as in the pipeline's close-up."""
        sample = self._portrait(rng, size).finish()
        return replace(sample, image=degrade(sample.image, rng))

    def _background(self, rng: np.random.Generator, size: int) -> ByteArray:
        """Make a picture without faces: `_plain_background` with drawn distractors."""
        image = self._plain_background(rng, size)
        if self._doodles and rng.random() < self._doodles:
            return with_distractors(image, rng)
        return image

    def _plain_background(self, rng: np.random.Generator, size: int) -> ByteArray:
        """Crop a face-free scene, or (rarely) a plain or noisy field."""
        if rng.random() < 0.08:
            colour = rng.integers(0, 256, 3)
            noise = rng.normal(0, rng.uniform(0, 40), (size // 8, size // 8, 3))
            field = np.clip(noise + colour, 0, 255).astype(np.uint8)
            return cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]
        if self._miniatures and rng.random() < self._miniatures:
            return self.mosaics.without_faces(rng, size)
        out = self._crop(rng, size)
        if rng.random() < 0.2:  # few scenes have no face: two in one make more of them
            shade = cv2.resize(rng.random((3, 3), np.float32), (size, size))
            share = np.clip(shade * 3 - 1, 0, 1)
            out = np.asarray(cv2.blendLinear(self._crop(rng, size), out, share, 1 - share))
        return colour_jitter(out, rng)

    def _crop(self, rng: np.random.Generator, size: int) -> ByteArray:
        """Crop a face-free scene, mirrored or not, to the size of the canvas."""
        image = self._empty[rng.integers(len(self._empty))].image
        height, width = image.shape[:2]
        side = int(min(height, width) * rng.uniform(0.35, 1.0))
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        crop = image[top : top + side, left : left + side]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < 0.3:  # a rotated scene counts as another one without a face
            crop = np.rot90(crop, int(rng.integers(1, 4)))
        return np.asarray(cv2.resize(np.ascontiguousarray(crop), (size, size)), np.uint8)

    def _draw_photo(
        self, rng: np.random.Generator, target: float
    ) -> tuple[ByteArray, FloatArray, FloatArray]:
        """Draw a photo, its box and landmarks; large targets prefer the larger photos."""
        bounds = self._bounds[target > LARGE_FACE]
        photos, rows = self._sources[int(np.searchsorted(bounds, rng.random()))]
        index = int(rows[rng.integers(len(rows))])
        photo, box, points = photos.photo(index), photos.boxes[index], photos.landmarks[index]
        shrink = np.sqrt((box[2:] - box[:2]).prod()) / max(target, 1.0) / 1.4
        if shrink > 1.2:  # by area first: the bilinear warp alone would alias
            height, width = photo.shape[:2]
            new_w, new_h = max(8, round(width / shrink)), max(8, round(height / shrink))
            photo = resized(photo, new_w, new_h)
            ratio = np.array([new_w / width, new_h / height], np.float32)
            box, points = box * np.tile(ratio, 2), points * ratio
        return photo, box, points

    def _paste_random_face(
        self, rng: np.random.Generator, canvas: Canvas, *, target: float, centre: FloatArray
    ) -> None:
        photo, box, points = self._draw_photo(rng, target)
        photo = colour_jitter(photo, rng)
        scale = target / float(np.sqrt((box[2:] - box[:2]).prod()))
        degrees = rng.uniform(-30, 30) if rng.random() < 0.5 else rng.normal(0, 6)
        linear = similarity(scale=scale, degrees=degrees, flip=bool(rng.random() < 0.5))
        offset = centre - linear @ ((box[:2] + box[2:]) / 2)
        matrix = np.hstack([linear, offset[:, None]]).astype(np.float32)
        mask = paste_mask(rng, photo.shape[:2], box)  # type: ignore[arg-type]
        canvas.paste_face(photo, mask, matrix, box=box, points=points)

    def _crowd(self, rng: np.random.Generator, size: int) -> Canvas:
        """Paste one to thirty faces on a background, large ones first, so that small ones show."""
        canvas = Canvas(self._background(rng, size))
        count = int(np.exp(rng.uniform(0, np.log(30.99))))
        if rng.random() < 0.5:
            count = max(count, int(rng.integers(6, 20)))
        largest = size * (0.9 if count < 3 else 0.6 if count < 6 else 0.4)
        sizes = np.exp(rng.uniform(np.log(SMALLEST_PASTED), np.log(largest), count))
        if rng.random() < 0.3:  # a group photo: all about the same size
            sizes = sizes[0] * np.exp(rng.normal(0, 0.15, count))
        anchor = rng.uniform(0, size, 2)
        spread = size * rng.uniform(0.1, 0.4) if rng.random() < 0.25 else None
        for target in np.sort(sizes)[::-1]:
            if spread is None:
                centre = rng.uniform(0, size, 2)
            else:
                centre = np.clip(anchor + rng.normal(0, spread, 2), 0, size)
            self._paste_random_face(
                rng, canvas, target=float(target), centre=centre.astype(np.float32)
            )
        if rng.random() < 0.3:
            self._distract(rng, canvas, int(rng.integers(1, 4)))
        return canvas

    def _portrait(self, rng: np.random.Generator, size: int) -> Canvas:
        """Take a real photo as a whole: letterboxed at the top left, zoomed, or padded by half."""
        photo, box, points = self._draw_photo(rng, size)
        height, width = photo.shape[:2]
        kind = rng.random()
        if kind < 0.2:
            scale, offset = size / max(height, width), np.zeros(2)
        elif kind < 0.7:
            scale = size / max(height, width) / 2 * np.exp(rng.uniform(np.log(0.8), np.log(1.4)))
            offset = np.array([width // 2, height // 2]) * scale
        else:
            scale = size / max(height, width) * np.exp(rng.uniform(np.log(0.15), np.log(1.2)))
            offset = rng.uniform(-0.2, 0.6, 2) * size
        if rng.random() < 0.2:
            scale *= rng.uniform(0.85, 1.15)
        shade = 0 if rng.random() < 0.7 else int(rng.integers(0, 256))
        canvas = Canvas(np.full((size, size, 3), shade, np.uint8))
        linear = similarity(
            scale=scale,
            degrees=rng.normal(0, 8) if rng.random() < 0.4 else 0.0,
            flip=bool(rng.random() < 0.5),
        )
        if linear[0, 0] < 0:
            offset = offset + np.array([width * scale, 0])
        matrix = np.hstack([linear, offset[:, None]]).astype(np.float32)
        if rng.random() < 0.5:
            photo = colour_jitter(photo, rng)
        canvas.paste_face(
            photo, np.ones((height, width), np.float32), matrix, box=box, points=points
        )
        return canvas

    def _close(self, rng: np.random.Generator, size: int, *, times: float) -> Canvas:
        """Paste a face `times` as large as the canvas, or the part of it that fits."""
        photo, box, points = self._draw_photo(rng, times * size)
        linear = similarity(
            scale=size * times / float(np.sqrt((box[2:] - box[:2]).prod())),
            degrees=rng.normal(0, 8),
            flip=bool(rng.random() < 0.5),
        )
        reach = 0.15 if times < 1 else 0.4
        middle = (box[:2] + box[2:]) / 2 + (box[2:] - box[:2]) * rng.uniform(-reach, reach, 2)
        matrix = np.hstack([linear, (size / 2 - linear @ middle)[:, None]]).astype(np.float32)
        canvas = Canvas(np.zeros((size, size, 3), np.uint8))
        mask = np.ones(photo.shape[:2], np.float32)
        canvas.paste_face(colour_jitter(photo, rng), mask, matrix, box=box, points=points)
        return canvas

    def _people(self, rng: np.random.Generator, size: int) -> Canvas:
        """Use a real scene with people: cropped, scaled, mirrored; with the teacher's labels."""
        scene = self._peopled[rng.integers(len(self._peopled))]
        height, width = scene.image.shape[:2]
        scale = size / max(height, width) * np.exp(rng.uniform(np.log(0.5), np.log(2.2)))
        linear = similarity(
            scale=scale,
            degrees=rng.normal(0, 6) if rng.random() < 0.3 else 0.0,
            flip=bool(rng.random() < 0.5),
        )
        middle = rng.uniform(0.3, 0.7, 2) * [width, height]
        offset = np.full(2, size / 2) - linear @ middle
        matrix = np.hstack([linear, offset[:, None]]).astype(np.float32)
        canvas = Canvas(np.zeros((size, size, 3), np.uint8))
        everything = np.ones((height, width), np.float32)
        canvas.paste(colour_jitter(scene.image, rng), everything, matrix)
        faces = scene.faces
        for box, points in zip(faces.boxes, faces.landmarks, strict=True):
            canvas.add_label(move_box(box, linear, offset), move_points(points, linear, offset))
        canvas.ignored += [move_box(box, linear, offset) for box in scene.doubtful.boxes]
        return canvas

    def _distract(self, rng: np.random.Generator, canvas: Canvas, count: int) -> None:
        """Paste parts of face-free scenes in the shapes used for faces."""
        size = canvas.image.shape[0]
        for _ in range(count):
            image = self._empty[rng.integers(len(self._empty))].image
            target = float(np.exp(rng.uniform(np.log(14), np.log(size * 0.6))))
            side = int(min(image.shape[:2]) * rng.uniform(0.3, 0.9))
            top = rng.integers(0, image.shape[0] - side + 1)
            left = rng.integers(0, image.shape[1] - side + 1)
            reach = max(8, round(target * 1.4))
            part = image[top : top + side, left : left + side]
            patch = colour_jitter(resized(part, reach, reach), rng)
            box = np.array([0.15, 0.1, 0.85, 0.9], np.float32) * reach
            linear = similarity(scale=1.0, degrees=rng.uniform(-30, 30), flip=False)
            matrix = np.hstack([linear, rng.uniform(-0.1, 0.9, (2, 1)) * size])
            mask = paste_mask(rng, (reach, reach), box)
            canvas.paste_distractor(patch, mask, matrix.astype(np.float32))


def training_composer(cache: Path, settings: TrainSettings | None = None) -> Composer:
    """Return a composer of the photos for training, from the cache of `dataset.prepare`."""
    settings = settings or TrainSettings()
    return Composer(
        load_faces(cache),
        load_scenes(cache / "scenes.npz"),
        held_out=False,
        miniatures=settings.miniatures,
        doodles=settings.doodles,
    )
