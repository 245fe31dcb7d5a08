"""The models of an installation: which versions serve, their digests, and on request the files."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from gateway.settings import Settings
from tools.backup.errors import BackupError
from tools.registry.version_store import STAGE_NAMES, VersionStore

_READ_BYTES: Final = 1 << 20
Models = Mapping[str, Any]


def describe(settings: Settings) -> dict[str, Any]:
    """Return for each stage the version in service, and the SHA-256 of each version's files."""
    store = _store(settings)
    return {
        stage: {
            "active": store.newest(stage),
            "versions": {
                str(version): {
                    name: _digest(path) for name, path in _files(store.placed(stage, version))
                }
                for version in store.placed_versions(stage)
            },
        }
        for stage in STAGE_NAMES
    }


def journal_file(settings: Settings) -> Path:
    """Return the file that says what was in service when."""
    return _store(settings).folder / "journal.jsonl"


def weight_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Return all files of all versions in the repository by `stage/version/name`."""
    store = _store(settings)
    for stage in STAGE_NAMES:
        for version in store.placed_versions(stage):
            for name, path in _files(store.placed(stage, version)):
                yield f"{stage}/{version}/{name}", path


def differences(settings: Settings, models: Models) -> list[str]:
    """Compare the repository with the models of a backup; a sentence for each difference."""
    here = describe(settings)
    found: list[str] = []
    for stage, entry in models.items():
        active = entry["active"]
        if active is None:
            continue
        mine = here.get(stage, {"active": None, "versions": {}})
        if mine["versions"].get(str(active)) != entry["versions"].get(str(active)):
            found.append(f"{stage}: version {active} of the backup is not in the repository")
        elif mine["active"] != active:
            found.append(f"{stage}: {active} was in service, {mine['active']} is")
    return found


class WeightsRestore:
    """Writes versions that the repository lacks; those that it has stay as they are."""

    def __init__(self, settings: Settings) -> None:
        self._store = _store(settings)
        self._arriving: dict[Path, Path] = {}

    def open(self, name: str) -> Path | None:
        """Return where to write a file of `weight_files`; None if its version is here already.

        Raises BackupError for a name that leads elsewhere.
        """
        parts = PurePosixPath(name).parts
        if len(parts) < 3 or parts[0] not in STAGE_NAMES or not parts[1].isdecimal():
            raise BackupError("the archive has a file of no model")
        if ".." in parts or name.startswith("/"):
            raise BackupError("the archive has a file with a path that leads elsewhere")
        target = self._store.placed(parts[0], int(parts[1]))
        if target.exists():
            return None
        arriving = target.with_name(f".incoming-backup-{parts[1]}")
        if target not in self._arriving:
            shutil.rmtree(arriving, ignore_errors=True)
            self._arriving[target] = arriving
        file = arriving.joinpath(*parts[2:])
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def finish(self) -> int:
        """Let the versions appear; returns how many."""
        for target, arriving in self._arriving.items():
            arriving.rename(target)
        return len(self._arriving)


def _store(settings: Settings) -> VersionStore:
    return VersionStore(settings.model_repository, settings.home)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
