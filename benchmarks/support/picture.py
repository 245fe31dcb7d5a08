"""Draw the comparison with insightface: a bar and its range for each photo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

# it writes XML and reads none
from xml.sax.saxutils import escape  # nosec B406

_PANELS: Final = {
    "throughput_ratio": "Photos per second, ratio to insightface (more is better)",
    "latency_ratio": "Latency of one caller, ratio to insightface (less is better)",
}
_LEFT, _WIDTH, _BAR, _ROW = 110, 560, 18, 34
_LONGEST: Final = 2.0
"""Ratio at the right edge."""


def draw(results: Mapping[str, Any], out: Path) -> None:
    """Write an SVG of the median ratios of `compare`; thin lines show their ranges."""
    shapes, y = [], 10
    for figure, title in _PANELS.items():
        shapes.append(f'<text x="10" y="{y + 14}" font-weight="bold">{escape(title)}</text>')
        top = y = y + 28
        for photo, figures in results.items():
            shapes += _bar(photo.removesuffix(".jpg"), figures[figure], y)
            y += _ROW
        x = _x(1)
        shapes.append(f'<path d="M{x} {top - 4}V{y - 8}" stroke="#444" stroke-dasharray="4 3"/>')
        y += 12
    style = 'font-family="sans-serif" font-size="13"'
    size = f'width="{_LEFT + _WIDTH + 60}" height="{y}"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    text = "\n".join([background, *shapes])
    out.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{text}\n</svg>\n')


def _bar(name: str, ratio: Mapping[str, float], y: int) -> list[str]:
    middle, end = y + _BAR / 2, _x(ratio["median"])
    return [
        f'<text x="10" y="{middle + 5}">{escape(name)}</text>',
        f'<rect x="{_LEFT}" y="{y}" width="{end - _LEFT:.1f}" height="{_BAR}" fill="#4a7fb5"/>',
        f'<path d="M{_x(ratio["min"])} {middle}H{_x(ratio["max"])}" stroke="#111"/>',
        f'<text x="{_x(ratio["max"]) + 6}" y="{middle + 5}">{ratio["median"]:.2f}</text>',
    ]


def _x(ratio: float) -> float:
    return round(_LEFT + _WIDTH * min(ratio, _LONGEST) / _LONGEST, 1)
