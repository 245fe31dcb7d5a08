"""The networks of a pack out of its zip file. No path of the archive is ever used."""

import errno
import hashlib
import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Final

from tools.errors import PackError
from tools.packs.manifest import PackFile

_CHUNK: Final = 1024 * 1024
_LARGEST: Final = 2 * 1024**3
"""Bytes of one network; more in a zip file of unknown sizes is taken for an attack."""


def extract(archive: Path, files: tuple[PackFile, ...], folder: Path) -> dict[str, str]:
    """Write each file into the folder under its own name.

    Returns:
        The SHA-256 of each, by name.

    Raises:
        PackError: it is no zip file, names paths outside itself, lacks a file, or one is not
            what the manifest says, or the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _members(opened, archive)
            missing = [file.name for file in files if file.name not in members]
            if missing:
                raise PackError(f"{archive.name} does not hold {', '.join(missing)}")
            return {file.name: _write(opened, members[file.name], file, folder) for file in files}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise PackError(f"{archive.name} is no sound zip file: {error}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PackError(f"the disk of {folder} is full") from error
        raise


def _members(opened: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in opened.infolist():
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise PackError(f"{archive.name} names a path outside itself: {entry.filename!r}")
        if not entry.is_dir():
            if path.name in found:
                raise PackError(f"{archive.name} holds {path.name} twice")
            found[path.name] = entry
    return found


def _write(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, file: PackFile, folder: Path) -> str:
    part = folder / f"{file.name}.part"
    try:
        with opened.open(entry) as source, part.open("wb") as target:
            digest, size = _copy(source, target, file)
        if file.bytes is not None and size != file.bytes:
            raise PackError(f"{file.name} has {size} bytes; {file.bytes} were expected")
        if file.sha256 is not None and digest != file.sha256:
            raise PackError(f"{file.name} has the SHA-256 {digest}; {file.sha256} was expected")
        part.rename(folder / file.name)
    finally:
        part.unlink(missing_ok=True)
    return digest


def _copy(source: IO[bytes], target: IO[bytes], file: PackFile) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    limit = file.bytes or _LARGEST
    while chunk := source.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise PackError(f"{file.name} is larger than {limit} bytes")
        digest.update(chunk)
        target.write(chunk)
    target.flush()
    os.fsync(target.fileno())
    return digest.hexdigest(), size
