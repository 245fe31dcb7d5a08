"""Version folders in the repository and, out of service, in the home; moved atomically.

Triton sees a folder come or go by one rename, never a half of it.
"""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.durable_files import sync_path
from tools.errors import LifecycleError
from tools.registry.journal import Journal
from triton_python_backend.contract import ONNX_STAGES

STAGE_NAMES: Final = tuple(stage.name for stage in ONNX_STAGES)
_PREFIX: Final = "face_"
_LEAVING: Final = ".leaving-"
_ARRIVING: Final = ".incoming-"
_LOCK_SECONDS: Final = 10.0
_LOCK_POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class VersionStore:
    """Where versions lie: in service below `repository`, kept below `home`/models."""

    repository: Path
    home: Path

    @property
    def folder(self) -> Path:
        """All that the home knows of models."""
        return self.home / "models"

    @property
    def journal(self) -> Journal:
        """What was in service when."""
        return Journal(self.folder / "journal.jsonl")

    @property
    def kept_folder(self) -> Path:
        """The stages of versions out of service."""
        return self.folder / "kept"

    def placed(self, stage: str, version: int) -> Path:
        """Folder of a version that Triton sees."""
        return self.repository / stage / str(version)

    def kept(self, stage: str, version: int) -> Path:
        """Folder of a version taken out of service."""
        return self.kept_folder / stage / str(version)

    def placed_versions(self, stage: str) -> list[int]:
        """Numbers that Triton sees, ascending; the last is in service if it loads."""
        return _numbers(self.repository / stage)

    def kept_versions(self, stage: str) -> list[int]:
        """Numbers taken out of service, ascending."""
        return _numbers(self.kept_folder / stage)

    def newest(self, stage: str) -> int | None:
        """The number in service."""
        return max(self.placed_versions(stage), default=None)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to change versions; raises LifecycleError if another has it too long."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "lock"
        with path.open("a+") as file:
            deadline = time.monotonic() + _LOCK_SECONDS
            while not _try_lock(file.fileno()):
                if time.monotonic() > deadline:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise LifecycleError(f"process {holder} changes models now ({path}); wait")
                time.sleep(_LOCK_POLL_SECONDS)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def take_out(self, stage: str, version: int) -> Path:
        """Move a version from the repository to the kept ones, over an older one of its number.

        The older one is moved aside, not lost.
        """
        source, target = self.placed(stage, version), self.kept(stage, version)
        _make_way(target)
        _move(source, target)
        return target

    def put_back(self, stage: str, version: int) -> Path:
        """Move a kept version into the repository."""
        source, target = self.kept(stage, version), self.placed(stage, version)
        _move(source, target)
        return target

    def clear_unfinished(self) -> None:
        """Finish moves between file systems that a crash cut short."""
        for stage in STAGE_NAMES:
            for folder in (self.repository / stage, self.kept_folder / stage):
                for rest in folder.glob(f"{_ARRIVING}move-*"):
                    shutil.rmtree(rest)
            for leaving in (self.repository / stage).glob(f"{_LEAVING}*"):
                target = self.kept(stage, int(leaving.name.removeprefix(_LEAVING)))
                if not target.exists():
                    _copy(leaving, target)
                shutil.rmtree(leaving)


def stage_name(text: str) -> str:
    """Take `embedding` or `face_embedding`; raises LifecycleError naming the stages there are."""
    name = text if text.startswith(_PREFIX) else _PREFIX + text
    if name not in STAGE_NAMES:
        known = ", ".join(each.removeprefix(_PREFIX) for each in STAGE_NAMES)
        raise LifecycleError(f"{text!r} is no stage with versions; there are {known}")
    return name


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(e.name) for e in folder.iterdir() if e.name.isdecimal() and e.is_dir())


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_way(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        number = 1
        while (aside := target.with_name(f"{target.name}.replaced-{number}")).exists():
            number += 1
        target.rename(aside)


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        leaving = source.with_name(f"{_LEAVING}{source.name}")
        source.rename(leaving)
        _copy(leaving, target)
        shutil.rmtree(leaving)
    for folder in {source.parent, target.parent}:
        sync_path(folder)


def _copy(source: Path, target: Path) -> None:
    # beside the target first, so that it appears whole
    arriving = target.with_name(f"{_ARRIVING}move-{target.name}")
    shutil.rmtree(arriving, ignore_errors=True)
    shutil.copytree(source, arriving)
    for path in arriving.rglob("*"):
        sync_path(path)
    arriving.rename(target)
