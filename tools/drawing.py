"""Draw an answer of the gateway onto its photo."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_BOX: Final = (80, 220, 120)
_POINT: Final = (255, 200, 60)
_TEXT: Final = (255, 255, 255)


def draw_faces(pixels: Pixels, faces: Sequence[Mapping[str, Any]]) -> Pixels:
    """Draw the box of each face, its landmarks and its label.

    Args:
        pixels: [H,W,3] uint8 RGB, upright.
        faces: the `faces` of an answer (box, perhaps landmarks), with a `label` or with their
            confidence and perhaps score.

    Returns:
        A new [H,W,3] uint8 RGB picture.
    """
    picture = pixels.copy()
    unit = max(picture.shape[:2]) / 512
    line = max(round(2 * unit), 1)
    for face in faces:
        left, top, right, bottom = (round(value) for value in face["box"])
        cv2.rectangle(picture, (left, top), (right, bottom), _BOX, line, cv2.LINE_AA)
        for x, y in face.get("landmarks", ()):
            cv2.circle(picture, (round(x), round(y)), line + 1, _POINT, cv2.FILLED, cv2.LINE_AA)
        _write(picture, face.get("label") or _label(face), (left, top), unit)
    return picture


def _label(face: Mapping[str, Any]) -> str:
    label = f"{face['confidence']:.2f}"
    if face.get("score") is not None:
        label += f"  score {face['score']:.1f}"
    return label


def _write(picture: Pixels, label: str, corner: tuple[int, int], unit: float) -> None:
    """Write a label on a filled bar above a box (inside it at the image's upper edge)."""
    font, scale, line = cv2.FONT_HERSHEY_SIMPLEX, 0.45 * unit, max(round(unit), 1)
    (width, height), base = cv2.getTextSize(label, font, scale, line)
    left = corner[0]
    bottom = corner[1] if corner[1] > height + 2 * base else corner[1] + height + 2 * base
    top_left, bottom_right = (left, bottom - height - 2 * base), (left + width + base, bottom)
    cv2.rectangle(picture, top_left, bottom_right, _BOX, cv2.FILLED)
    cv2.putText(picture, label, (left, bottom - base), font, scale, _TEXT, line, cv2.LINE_AA)
