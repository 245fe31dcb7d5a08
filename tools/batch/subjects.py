"""Who a photo shows: by its folder, its name or a CSV file."""

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from gateway.archives.types import text_of
from tools.batch.types import Photo
from tools.errors import BatchError

_NUMBER: Final = re.compile(r"[ _.-]*(\d+|\(\d+\))$")


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


class FolderSubjects:
    """The folder that holds the photo: `people/ada/1.jpg` shows `ada`."""

    def of(self, photo: Photo) -> Subject:
        """See `SubjectSource.of`."""
        folder = PurePosixPath(photo.member or photo.name).parent.name
        if not folder or folder == "..":
            raise SubjectError("its path has no folder that names the subject")
        return Subject(folder)


class NameSubjects:
    """The name without its suffix and the number at its end: `ada_2.jpg` shows `ada`."""

    def of(self, photo: Photo) -> Subject:
        """See `SubjectSource.of`."""
        name = _NUMBER.sub("", PurePosixPath(photo.name).stem).strip()
        if not name or name == "-":
            raise SubjectError("its name has nothing but a number")
        return Subject(name)


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
    return FolderSubjects() if source is SubjectFrom.FOLDER else NameSubjects()


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
