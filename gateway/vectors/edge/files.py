"""Copy sparse shard folders, sync them to the disk, remove them."""

import os
import shutil
from pathlib import Path

from gateway.durable_files import sync_path

_COPY_BYTES = 1 << 20


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder and sync it to the disk; holes stay holes (a log has 32 MiB of them)."""
    shutil.copytree(source, target, copy_function=_copy_sparse)
    sync_folder(target)
    sync_path(target.parent)


def sync_folder(folder: Path) -> None:
    """Sync every file below a folder to the disk."""
    for path in [folder, *folder.rglob("*")]:
        sync_path(path)


def _copy_sparse(source: str, target: str) -> None:
    with Path(source).open("rb") as old, Path(target).open("wb") as new:
        size = os.fstat(old.fileno()).st_size
        os.ftruncate(new.fileno(), size)
        position = 0
        while position < size:
            try:
                position = os.lseek(old.fileno(), position, os.SEEK_DATA)
            except OSError:
                # the rest of the file is a hole
                return
            end = os.lseek(old.fileno(), position, os.SEEK_HOLE)
            while position < end:
                data = os.pread(old.fileno(), min(_COPY_BYTES, end - position), position)
                position += os.pwrite(new.fileno(), data, position)
