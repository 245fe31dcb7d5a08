"""The plane geometry of faces: the alignment template, similarities, boxes.

Frames: *image* is pixels of the upright source image, *canvas* pixels of a detector input,
*crop* pixels of an aligned face. Pixel coordinates are x right, y down.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

ARCFACE_TEMPLATE: Final[Floats] = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ],
    dtype=np.float32,
)
"""Where the five landmarks lie in a 112 x 112 crop (Deng et al., ArcFace, CVPR 2019)."""

_COMPLEX: Final = np.array([1, 1j])
"""[x, y] @ this is x + iy."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The map from image to canvas: canvas = image * scale + (pad_x, pad_y)."""

    scale: float
    pad_x: float
    pad_y: float

    def to_image(self, points: Floats) -> Floats:
        """Map points [..., 2] from canvas to image pixels."""
        offset = np.array([self.pad_x, self.pad_y], dtype=np.float32)
        return ((points - offset) / np.float32(self.scale)).astype(np.float32)

    def from_image(self, points: Floats) -> Floats:
        """Map points [..., 2] from image to canvas pixels."""
        offset = np.array([self.pad_x, self.pad_y], dtype=np.float32)
        return (points * np.float32(self.scale) + offset).astype(np.float32)


def similarities(sources: Floats, target: Floats) -> Floats:
    """Least-squares rotation, scale and shift that takes each of `sources` to `target`.

    In the complex plane the similarity is z -> a z + b, so the fit has a closed form; its
    optimum is that of Umeyama (PAMI 1991), which insightface's `estimate_norm` uses.

    Args:
        sources: [N,K,2] points, K >= 2, not all K equal.
        target: [K,2] points.

    Returns:
        [N,2,3] float32 matrices for `cv2.warpAffine`.

    Raises:
        ValueError: if all K points of a source coincide.

    """
    z = sources.astype(np.float64) @ _COMPLEX
    w = target.astype(np.float64) @ _COMPLEX
    z_mean, w_mean = z.mean(axis=1, keepdims=True), w.mean()
    z -= z_mean
    spread = np.sum(z.real**2 + z.imag**2, axis=1)
    if not (spread > 0).all():
        message = "a similarity needs at least two different points"
        raise ValueError(message)
    a = (np.conj(z) @ (w - w_mean)) / spread
    b = w_mean - a * z_mean[:, 0]
    matrices = np.empty((len(z), 2, 3), dtype=np.float32)
    matrices[:, 0, 0] = matrices[:, 1, 1] = a.real
    matrices[:, 0, 1], matrices[:, 1, 0] = -a.imag, a.imag
    matrices[:, 0, 2], matrices[:, 1, 2] = b.real, b.imag
    return matrices


def areas(boxes: Floats) -> Floats:
    """Areas [N] of boxes [N,4] (x1 y1 x2 y2); negative extents count as 0."""
    width = np.maximum(boxes[:, 2] - boxes[:, 0], 0)
    height = np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    return np.asarray(width * height, dtype=np.float32)


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """Intersection over union [N,M] of boxes [N,4] with others [M,4]."""
    shared = _shared(boxes, others)
    union = areas(boxes)[:, None] + areas(others)[None, :] - shared
    return np.asarray(shared / np.maximum(union, 1e-9), dtype=np.float32)


def shared_with_smaller(boxes: Floats, others: Floats) -> Floats:
    """Intersection over the smaller area [N,M] of boxes [N,4] and others [M,4]."""
    smaller = np.minimum(areas(boxes)[:, None], areas(others)[None, :])
    return np.asarray(_shared(boxes, others) / np.maximum(smaller, 1e-9), dtype=np.float32)


def _shared(boxes: Floats, others: Floats) -> Floats:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=2), dtype=np.float32)
