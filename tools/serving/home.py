"""Paths below `AURUM_HOME`, and settings with absolute folders."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.settings import Settings

_KEPT_LOGS = 3


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one `AURUM_HOME`; `root` is absolute, without symbolic links."""

    root: Path

    @property
    def run(self) -> Path:
        """Lock and state of the running stack."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log for each part."""
        return self.root / "logs"

    @property
    def triton(self) -> Path:
        """Unpacked servers, one folder per version."""
        return self.root / "triton"

    @property
    def backends(self) -> Path:
        """Triton's backends folder; rebuilt at each start."""
        return self.root / "backends"

    @property
    def interpreter(self) -> Path:
        """The Python environment of Triton's Python stages; rebuilt at each start."""
        return self.root / "interpreter"

    @property
    def shm_prefix(self) -> str:
        """Name prefix of all shared memory files of this home's Triton."""
        digest = hashlib.sha256(str(self.root).encode()).hexdigest()
        return f"aurum_{digest[:12]}_"

    @property
    def trials(self) -> Path:
        """Results of the networks' trials."""
        return self.root / "trials"

    def log(self, part: str) -> Path:
        """Path of a part's log."""
        return self.logs / f"{part}.log"


def resolve(settings: "Settings") -> "Settings":
    """Make relative folders absolute, relative to the current folder."""
    mirror, folder = settings.model_mirror, settings.triton_folder
    if mirror is not None and "://" not in mirror:
        mirror = str(Path(mirror).expanduser().resolve())
    return settings.model_copy(
        update={
            "home": settings.home.expanduser().resolve(),
            "model_repository": settings.model_repository.expanduser().resolve(),
            "triton_folder": folder and folder.expanduser().resolve(),
            "model_mirror": mirror,
        }
    )


def rotate_log(log: Path) -> None:
    """Rename the log of an earlier run; keep the newest few."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.exists():
        return
    for number in range(_KEPT_LOGS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))
