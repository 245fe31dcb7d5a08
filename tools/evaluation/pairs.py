"""Labelled photos from CSV files; paths are relative to the file."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.errors import CalibrationError

_PAIRS: Final = ("image_a", "image_b", "same")
_RATINGS: Final = ("image", "rating")
_TRUTH: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two photos and whether they show one person."""

    a: Path
    b: Path
    same: bool


def read_pairs(path: Path) -> list[Pair]:
    """Read `image_a,image_b,same`; raises CalibrationError naming the line that is wrong."""
    pairs = []
    for number, row in _rows(path, _PAIRS):
        truth = _TRUTH.get(row["same"].strip().lower())
        if truth is None:
            raise CalibrationError(f"{path}:{number}: same is {row['same']!r}, not 1 or 0")
        a, b = (_photo(path, number, row[name]) for name in ("image_a", "image_b"))
        pairs.append(Pair(a, b, truth))
    return pairs


def read_ratings(path: Path) -> list[tuple[Path, float]]:
    """Read `image,rating`; raises CalibrationError naming the line that is wrong."""
    rated = []
    for number, row in _rows(path, _RATINGS):
        try:
            rating = float(row["rating"])
        except ValueError as error:
            message = f"{path}:{number}: rating is {row['rating']!r}, no number"
            raise CalibrationError(message) from error
        if not 1 <= rating <= 10:
            raise CalibrationError(f"{path}:{number}: rating {rating} is not within 1 to 10")
        rated.append((_photo(path, number, row["image"]), rating))
    return rated


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            if tuple(reader.fieldnames or ()) != columns:
                found = ",".join(reader.fieldnames or ())
                message = f"{path} begins with {found!r}; {','.join(columns)!r} was expected"
                raise CalibrationError(message)
            return [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path} cannot be read: {error}") from error


def _photo(path: Path, number: int, text: str) -> Path:
    photo = path.parent / text
    if not photo.is_file():
        raise CalibrationError(f"{path}:{number}: there is no photo {photo}")
    return photo
