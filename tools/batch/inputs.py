"""Finds and reads the inputs of a bulk command: files, folders, globs, archives, standard input."""

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from gateway.archives.image_names import HEAD_BYTES, is_image
from gateway.archives.reader import ARCHIVE_HEAD_BYTES, is_archive, is_other_archive
from gateway.archives.types import DEFAULT_LIMITS, Limits, text_of
from tools.batch.archives import read_archive
from tools.batch.types import Input, Photo, Refused, Skipped
from tools.errors import BatchError

STDIN: Final = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read. named: it was given itself, so it may be an archive."""

    path: str
    size: int
    named: bool


@dataclass(frozen=True, slots=True)
class Sources:
    """All files to read, in their order, and their bytes."""

    files: tuple[Source, ...]
    total_bytes: int


def find_sources(
    arguments: Sequence[str],
    *,
    stdin: IO[bytes],
    stdin_is_list: bool = False,
    without: Sequence[Path] = (),
) -> Sources:
    """List the files behind the arguments, in the order given, within a folder by their names.

    Args:
        arguments: files, folders, globs, or `-` for standard input.
        stdin: read here if it is a list of paths.
        stdin_is_list: `-` is a list of paths, one a line; otherwise one image.
        without: folders to leave out, as results are written into them.

    Raises:
        BatchError: a path that does not exist, or standard input is named twice.
    """
    if arguments.count(STDIN) > 1:
        raise BatchError("standard input (-) is named twice")
    if stdin_is_list and STDIN not in arguments:
        raise BatchError("--from-list reads standard input: give - as a path")
    left_out = {os.path.realpath(folder) for folder in without}
    found: dict[str, Source] = {}
    for argument in arguments:
        if argument == STDIN and stdin_is_list:
            for line in stdin.read().splitlines():
                if line.strip():
                    for each in _of(os.fsdecode(line), left_out, listed=True):
                        found.setdefault(each.path, each)
            continue
        for each in _of(argument, left_out, listed=False):
            found.setdefault(each.path, each)
    files = tuple(found.values())
    return Sources(files, sum(each.size for each in files))


def read_sources(
    sources: Sources, *, stdin: IO[bytes], limits: Limits = DEFAULT_LIMITS
) -> Iterator[Input]:
    """Read the files one after the other, archives member by member."""
    for source in sources.files:
        if source.path == STDIN:
            yield _from_stdin(stdin, limits)
            continue
        name = text_of(source.path)
        try:
            head = _head(source) if source.named else b""
        except OSError as error:
            yield Refused(name, _reason(error), source.size)
            continue
        if is_other_archive(head):
            yield Refused(name, "is an archive, but no zip, tar or tar.gz", source.size)
        elif is_archive(head):
            yield from read_archive(Path(source.path), name, limits)
        else:
            yield _from_file(source, name, limits)


def _of(argument: str, left_out: set[str], *, listed: bool) -> Iterator[Source]:
    if argument == STDIN:
        yield Source(STDIN, 0, named=True)
    elif os.path.isdir(argument):
        yield from _walk(argument, left_out)
    elif os.path.exists(argument):
        yield Source(os.path.normpath(argument), _size(argument), named=True)
    elif glob.has_magic(argument) and not listed:
        matches = sorted(glob.glob(argument, recursive=True))
        if not matches:
            raise BatchError(f"nothing matches {text_of(argument)}")
        for match in matches:
            yield from _of(match, left_out, listed=True)
    elif listed:
        # it is reported when its turn comes
        yield Source(os.path.normpath(argument), 0, named=True)
    else:
        raise BatchError(f"{text_of(argument)} does not exist")


def _walk(folder: str, left_out: set[str]) -> Iterator[Source]:
    """List regular files below a folder; hidden ones and links to folders are left out."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(
            each
            for each in folders
            if not each.startswith(".") and os.path.realpath(f"{root}/{each}") not in left_out
        )
        for name in sorted(files):
            path = os.path.normpath(os.path.join(root, name))
            if not name.startswith("."):
                yield Source(path, _size(path), named=False)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _head(source: Source) -> bytes:
    # the first bytes of a pipe would be lost
    if not stat.S_ISREG(os.stat(source.path).st_mode):
        return b""
    with open(source.path, "rb") as file:
        return file.read(ARCHIVE_HEAD_BYTES)


def _from_file(source: Source, name: str, limits: Limits) -> Input:
    try:
        if not source.named and not stat.S_ISREG(os.stat(source.path).st_mode):
            return Refused(name, "is no regular file", source.size)
        with open(source.path, "rb") as file:
            return _read(file, name, source.size, limits)
    except OSError as error:
        return Refused(name, _reason(error), source.size)


def _from_stdin(stdin: IO[bytes], limits: Limits) -> Input:
    return _read(stdin, STDIN, 0, limits)


def _read(file: IO[bytes], name: str, size: int, limits: Limits) -> Input:
    head = file.read(HEAD_BYTES)
    if not is_image(name, head):
        return Skipped(name, size)
    data = head + file.read(limits.member_bytes + 1 - len(head))
    if len(data) > limits.member_bytes:
        return Refused(name, f"has more than {limits.member_bytes:,} bytes", size)
    return Photo.of(name, data, weight=size)


def _reason(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"
