"""The DET curve: FNMR over FMR, both on a normal-deviate scale (Martin et al., 1997)."""

from pathlib import Path
from statistics import NormalDist
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from gateway.registry.calibration import DEFAULT_FMR, Calibration

_SIZE: Final = 640
_MARGIN: Final = 80
_TICKS: Final = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)
_LOW, _HIGH = 1e-5, 0.6
_INK, _GRID, _CURVE, _MARK = (40, 40, 40), (225, 225, 225), (180, 90, 20), (30, 30, 200)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


def draw_det(calibration: Calibration, path: Path) -> None:
    """Write the curve of a calibration as a PNG; rates of 0 lie on the axis."""
    canvas = np.full((_SIZE, _SIZE, 3), 255, np.uint8)
    for tick in _TICKS:
        x, y = _x(tick), _y(tick)
        cv2.line(canvas, (x, _MARGIN // 2), (x, _SIZE - _MARGIN), _GRID, 1)
        cv2.line(canvas, (_MARGIN, y), (_SIZE - _MARGIN // 2, y), _GRID, 1)
        cv2.putText(canvas, f"{tick:g}", (x - 18, _SIZE - _MARGIN + 20), _FONT, 0.4, _INK, 1)
        cv2.putText(canvas, f"{tick:g}", (_MARGIN - 50, y + 4), _FONT, 0.4, _INK, 1)
    points = [(_x(rate.fmr), _y(rate.fnmr)) for rate in calibration.rates]
    cv2.polylines(canvas, [np.array(points, np.int32)], False, _CURVE, 2, cv2.LINE_AA)
    threshold = calibration.threshold_at(DEFAULT_FMR)
    for rate in calibration.rates:
        if rate.threshold == threshold:
            cv2.circle(canvas, (_x(rate.fmr), _y(rate.fnmr)), 5, _MARK, -1, cv2.LINE_AA)
    title = (
        f"space {calibration.space}: {calibration.same_pairs} same, "
        f"{calibration.different_pairs} different pairs"
    )
    cv2.putText(canvas, title, (_MARGIN, 25), _FONT, 0.45, _INK, 1, cv2.LINE_AA)
    cv2.putText(canvas, "FMR", (_SIZE // 2, _SIZE - 25), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    cv2.putText(canvas, "FNMR", (5, _MARGIN // 2), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    path.write_bytes(_encode(canvas))


def _encode(canvas: npt.NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", canvas)[1])


def _place(rate: float) -> float:
    normal = NormalDist()
    low, high = normal.inv_cdf(_LOW), normal.inv_cdf(_HIGH)
    return (normal.inv_cdf(min(max(rate, _LOW), _HIGH)) - low) / (high - low)


def _x(rate: float) -> int:
    return round(_MARGIN + _place(rate) * (_SIZE - 1.5 * _MARGIN))


def _y(rate: float) -> int:
    return round(_SIZE - _MARGIN - _place(rate) * (_SIZE - 1.5 * _MARGIN))
