"""Part of stage 3 of 7: a picture turned about its centre, and the way back to its pixels.

Pixels may lie on their side or head without a tag that says so. A turned picture is a picture like
any other: the same canvases are made of it, and what is found there is mapped back.
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
    """A turn of the plane: turned = matrix (x, y, 1), as `cv2.warpAffine` has it.

    matrix: [2,3] float64, from image to turned pixels. degrees: clockwise.
    """

    matrix: npt.NDArray[np.float64]
    degrees: int

    def to_image(self, points: Floats) -> Floats:
        """Map points [..., 2] of the turned picture to the image."""
        back = cv2.invertAffineTransform(self.matrix)
        return np.asarray(points @ back[:, :2].T + back[:, 2], dtype=np.float32)

    def from_image(self, points: Floats) -> Floats:
        """Map points [..., 2] of the image to the turned picture."""
        return np.asarray(points @ self.matrix[:, :2].T + self.matrix[:, 2], dtype=np.float32)

    def boxes_to_image(self, boxes: Floats) -> Floats:
        """Map boxes [N,4] of the turned picture: each to the box around its turned ellipse.

        A face fills the ellipse of its box; the box around all four turned corners would be
        larger than the face. At right angles both are the same.
        """
        centres = self.to_image((boxes[:, :2] + boxes[:, 2:]) / 2)
        shares = cv2.invertAffineTransform(self.matrix)[:, :2] ** 2
        halves = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ shares.T)
        turned = np.concatenate([centres - halves, centres + halves], axis=1)
        return np.asarray(turned, dtype=np.float32)


def turn_picture(picture: Picture, degrees: int, *, longest: int) -> tuple[Picture, Turn]:
    """Turn a picture clockwise; black beyond its edges.

    Args:
        picture: the image as it is at hand, perhaps reduced.
        degrees: 0 to 359. A multiple of 90 moves pixels and computes none.
        longest: at other angles the picture is made no larger than this first, which spares time;
            no canvas shows more.

    Returns:
        the turned picture; how the image lies in it.

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
    # from the image's pixels to these: centres on centres
    matrix[:, :2] /= scale
    matrix[:, 2] -= matrix[:, :2].sum(axis=1) * (scale / 2 - 0.5)
    return Picture.whole(np.asarray(turned, dtype=np.uint8)), Turn(matrix, degrees)


def _quarter_turned(picture: Picture, quarters: int, degrees: int) -> tuple[Picture, Turn]:
    step = picture.reduction
    pixels = np.ascontiguousarray(np.rot90(picture.pixels, -quarters))
    # of a reduced picture the last row and column may reach beyond the image's
    height, width = (edge * step for edge in picture.pixels.shape[:2])
    wide, high = (height, width) if quarters % 2 else (width, height)
    matrix = np.rint(_about_centre(degrees, (width, height), (wide, high)))
    return Picture(pixels, wide, high, step), Turn(matrix, degrees)


def turn_about(
    degrees: int, point: Doubles, target: Doubles, *, scale: float = 1.0
) -> npt.NDArray[np.float64]:
    """Matrix [2,3] of a clockwise turn, and a change of size, that brings `point` to `target`."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = scale * np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, target - linear @ point])


def _about_centre(
    degrees: int, size: tuple[int, int], target: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Turn pixels of `size` (width, height) so that their middle comes to that of `target`."""
    middle, goal = (np.array(edges) / 2 - 0.5 for edges in (size, target))
    return turn_about(degrees, middle, goal)


def _shrunk(picture: Picture, longest: int) -> tuple[Pixels, float]:
    """Make pixels of at most `longest`; how many of the image's each then stands for."""
    pixels = picture.pixels
    edge = max(pixels.shape[:2])
    if edge <= longest:
        return pixels, picture.reduction
    share = longest / edge
    size = [max(round(each * share), 1) for each in pixels.shape[1::-1]]
    shrunk = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8), picture.reduction / share
