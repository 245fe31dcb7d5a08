"""Part of stage 3 of 6: rotate a picture about its centre, and map its pixels back.

An image's pixels may be rotated without an Exif orientation. A rotated picture is an ordinary
picture: the same canvases are made from it, and detections are mapped back to the image.
"""

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from triton_python_backend.decoding import Picture, Pixels
from triton_python_backend.geometry import Floats

Doubles = npt.NDArray[np.floating[Any]]

RIGHT_ANGLE: Final = 90


@dataclass(frozen=True, slots=True)
class Turn:
    """A rotation of the plane: rotated = matrix (x, y, 1), as `cv2.warpAffine` uses it.

    matrix: [2,3] float64, from image to rotated pixels. degrees: clockwise.
    """

    matrix: npt.NDArray[np.float64]
    degrees: int

    def to_image(self, points: Floats) -> Floats:
        """Map points [..., 2] of the rotated picture to the image."""
        back = cv2.invertAffineTransform(self.matrix)
        return np.asarray(points @ back[:, :2].T + back[:, 2], dtype=np.float32)

    def from_image(self, points: Floats) -> Floats:
        """Map points [..., 2] of the image to the rotated picture."""
        return np.asarray(points @ self.matrix[:, :2].T + self.matrix[:, 2], dtype=np.float32)

    def boxes_to_image(self, boxes: Floats) -> Floats:
        """Map boxes [N,4] of the rotated picture: each to the box around its rotated ellipse.

        A face fills the ellipse of its box; the box around the four rotated corners would be larger
        than the face. At right angles both are the same.
        """
        centres = self.to_image((boxes[:, :2] + boxes[:, 2:]) / 2)
        shares = cv2.invertAffineTransform(self.matrix)[:, :2] ** 2
        halves = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ shares.T)
        turned = np.concatenate([centres - halves, centres + halves], axis=1)
        return np.asarray(turned, dtype=np.float32)


def turn_picture(picture: Picture, degrees: int, *, longest: int) -> tuple[Picture, Turn]:
    """Rotate a picture clockwise; black beyond its edges.

    Args:
        picture: the image as decoded so far, perhaps reduced.
        degrees: 0 to 359. A multiple of 90 moves pixels without interpolation.
        longest: at other angles the picture is first reduced to this, to save time; no canvas
            shows more.

    Returns:
        the rotated picture; the map from the image to it.

    """
    quarters, rest = divmod(degrees, RIGHT_ANGLE)
    if rest == 0:
        return _quarter_turned(picture, quarters, degrees)
    pixels, scale = _shrunk(picture, longest)
    height, width = pixels.shape[:2]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    wide = int(np.ceil(abs(width * cosine) + abs(height * sine)))
    high = int(np.ceil(abs(width * sine) + abs(height * cosine)))
    matrix = _about_centre(degrees, (width, height), (wide, high))
    turned = cv2.warpAffine(pixels, matrix, (wide, high), flags=cv2.INTER_LINEAR)
    # from the image's pixels to these; pixel centres map to pixel centres
    matrix[:, :2] /= scale
    matrix[:, 2] -= matrix[:, :2].sum(axis=1) * (scale / 2 - 0.5)
    return Picture.whole(np.asarray(turned, dtype=np.uint8)), Turn(matrix, degrees)


def _quarter_turned(picture: Picture, quarters: int, degrees: int) -> tuple[Picture, Turn]:
    step = picture.reduction
    pixels = np.ascontiguousarray(np.rot90(picture.pixels, -quarters))
    # a reduced picture's last row and column may extend beyond the image
    height, width = (edge * step for edge in picture.pixels.shape[:2])
    wide, high = (height, width) if quarters % 2 else (width, height)
    matrix = np.rint(_about_centre(degrees, (width, height), (wide, high)))
    return Picture(pixels, wide, high, step), Turn(matrix, degrees)


def turn_about(
    degrees: int, point: Doubles, target: Doubles, *, scale: float = 1.0
) -> npt.NDArray[np.float64]:
    """Matrix [2,3] of a clockwise rotation with scaling that maps `point` to `target`."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = scale * np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, target - linear @ point])


def _about_centre(
    degrees: int, size: tuple[int, int], target: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Rotate pixels of `size` (width, height); their centre maps to the centre of `target`."""
    middle, goal = (np.array(edges) / 2 - 0.5 for edges in (size, target))
    return turn_about(degrees, middle, goal)


def _shrunk(picture: Picture, longest: int) -> tuple[Pixels, float]:
    """Reduce pixels to `longest`; also returns the number of image pixels per pixel."""
    pixels = picture.pixels
    edge = max(pixels.shape[:2])
    if edge <= longest:
        return pixels, picture.reduction
    share = longest / edge
    size = [max(round(each * share), 1) for each in pixels.shape[1::-1]]
    shrunk = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8), picture.reduction / share
