"""Who a photo shows: by its folder, its name or a CSV file."""

import csv
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from gateway.archives.types import text_of
from gateway.collections.names import folder_of, unnumbered
from tools.batch.types import Photo
from tools.errors import BatchError


class SubjectFrom(StrEnum):
    """Where the subject of a photo is written."""

    FOLDER = "folder"
    NAME = "name"
    CSV = "csv"


class SubjectError(Exception):
    """A photo whose subject is not known."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The name of a subject, and its name for people to read, if one was given."""

    name: str
    display_name: str | None = None


class SubjectSource(Protocol):
    """Gives each photo its subject."""

    def of(self, photo: Photo) -> Subject:
        """Return the subject; raises SubjectError."""


class PathSubjects:
    """The path of the photo, by a rule that the service has, too: `folder_of` or `unnumbered`."""

    def __init__(self, rule: Callable[[str], str], path: Callable[[Photo], str]) -> None:
        self._rule = rule
        self._path = path

    def of(self, photo: Photo) -> Subject:
        """See `SubjectSource.of`."""
        try:
            return Subject(self._rule(self._path(photo)))
        except ValueError as error:
            raise SubjectError(str(error)) from error


class CsvSubjects:
    """A table of paths; a path is as it was given, or relative to the table's folder."""

    def __init__(self, file: Path) -> None:
        """Read the table; raises BatchError that names the line."""
        self._file = file
        self._by_path = _read(file)

    def of(self, photo: Photo) -> Subject:
        """See `SubjectSource.of`."""
        for path in (photo.name, os.path.realpath(photo.name), photo.member):
            if path is not None and path in self._by_path:
                return self._by_path[path]
        raise SubjectError(f"{self._file} has no row for it")


def open_subjects(source: SubjectFrom, file: Path | None) -> SubjectSource:
    """Open where subjects are written; raises BatchError for options that do not fit."""
    if source is SubjectFrom.CSV:
        if file is None:
            raise BatchError("--subject-from csv needs --csv FILE")
        return CsvSubjects(file)
    if file is not None:
        raise BatchError("--csv needs --subject-from csv")
    if source is SubjectFrom.FOLDER:
        return PathSubjects(folder_of, lambda photo: photo.member or photo.name)
    return PathSubjects(unnumbered, lambda photo: photo.name)


def _read(file: Path) -> Mapping[str, Subject]:
    found: dict[str, Subject] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = csv.DictReader(opened)
            lacking = {"path", "subject"} - set(rows.fieldnames or ())
            if lacking:
                raise BatchError(f"{file} has no column {' and no '.join(sorted(lacking))}")
            for row in rows:
                _add(found, row, file, rows.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BatchError(f"{file} cannot be read: {error}") from error
    return found


def _add(found: dict[str, Subject], row: Mapping[str, str | None], file: Path, number: int) -> None:
    path, name = (row["path"] or "").strip(), (row["subject"] or "").strip()
    if not path or not name:
        raise BatchError(f"{file}, line {number}: path and subject must not be empty")
    subject = Subject(name, (row.get("display_name") or "").strip() or None)
    full = os.path.realpath(file.parent / path)
    if found.setdefault(full, subject) != subject:
        raise BatchError(f"{file}, line {number}: {path} has two subjects")
    found.setdefault(text_of(path), subject)
