"""Results of a job as a table: one row for each image, with its largest face."""

import csv
import io
from typing import Any, Final

import msgspec

from gateway.jobs.service import OpenedItem
from gateway.records.job_types import Operation

_IMAGE: Final = ("index", "name", "status", "code", "detail", "faces")
_BOX: Final = ("x1", "y1", "x2", "y2")
_ANALYSED: Final = (*_BOX, "confidence", "acceptable")
COLUMNS: Final[dict[Operation, tuple[str, ...]]] = {
    "score": (*_IMAGE, "score", *_ANALYSED),
    "detect": (*_IMAGE, *_ANALYSED),
    "embed": (*_IMAGE, *_ANALYSED),
    "enrol": (*_IMAGE, "subject", "face_id", "duplicate", *_BOX),
}
"""`faces` is the number found, or enrolled; the columns after it are of the largest face."""
_FORMULA: Final = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")
"""First characters that make spreadsheets run a text; the last four are full-width."""


class _Quality(msgspec.Struct):
    acceptable: bool | None = None


class _Face(msgspec.Struct):
    box: tuple[float, float, float, float] | None = None
    confidence: float | None = None
    score: float | None = None
    quality: _Quality | None = None
    subject: str | None = None
    face_id: str | None = None
    duplicate: bool | None = None


class _Answer(msgspec.Struct):
    faces: list[_Face] = msgspec.field(default_factory=list)
    faces_found: int | None = None


_DECODER: Final = msgspec.json.Decoder(_Answer)
"""Skips embeddings and crops without building them."""


def header(operation: Operation) -> bytes:
    """Return the first line."""
    return _line(COLUMNS[operation])


def row(operation: Operation, opened: OpenedItem) -> bytes:
    """Return the line of an image; empty cells where there is no face."""
    item = opened.item
    cells: dict[str, Any] = {
        "index": item.index,
        "name": _text(item.name),
        "status": item.status,
        "code": item.code,
        "detail": _text(item.detail),
    }
    if opened.answer is not None:
        answer = _DECODER.decode(opened.answer)
        found = answer.faces_found
        cells["faces"] = len(answer.faces) if found is None else found
        if answer.faces:
            cells |= _face_cells(answer.faces[0])
    return _line([_cell(cells.get(name)) for name in COLUMNS[operation]])


def _face_cells(face: _Face) -> dict[str, Any]:
    box = face.box or (None,) * 4
    return {
        **dict(zip(_BOX, box, strict=True)),
        "confidence": face.confidence,
        "score": face.score,
        "acceptable": None if face.quality is None else face.quality.acceptable,
        "subject": _text(face.subject),
        "face_id": face.face_id,
        "duplicate": face.duplicate,
    }


def _text(text: str | None) -> str | None:
    """Keep a spreadsheet from running a text of a client's as a formula."""
    return f"'{text}" if text is not None and text.startswith(_FORMULA) else text


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _line(cells: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    # file names may contain what is no Unicode text
    return text.getvalue().encode("utf-8", "replace")
