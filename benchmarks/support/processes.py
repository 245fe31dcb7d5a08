"""What groups of processes take: memory and processor time, read from `/proc`.

A process that ended meanwhile counts as nothing.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import psutil

PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_UTIME: Final = 11
"""Place of `utime` among the fields of `stat` behind the command's name; three more follow."""


def tree(pid: int) -> list[int]:
    """A process and all that descend from it; empty if it is gone."""
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def with_environment(name: str, value: str) -> list[int]:
    """All processes that were started with a variable of that value."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value:
                found.append(int(process.pid))
        except psutil.Error:
            continue
    return found


def pss_of(pids: Iterable[int], proc: Path = PROC) -> int:
    """Bytes of memory, a page that n processes share counted as 1/n in each."""
    return sum(_kibibytes(proc / str(pid) / "smaps_rollup", "Pss:") for pid in pids) * 1024


def rss_of(pids: Iterable[int], proc: Path = PROC) -> int:
    """Bytes of memory, a shared page counted in full in each process."""
    return sum(_kibibytes(proc / str(pid) / "status", "VmRSS:") for pid in pids) * 1024


def cpu_seconds_of(pids: Iterable[int], proc: Path = PROC) -> float:
    """Processor time, user and system, with that of the children they waited for."""
    return sum(_ticks(proc / str(pid) / "stat") for pid in pids) / _TICKS


def _kibibytes(file: Path, field: str) -> int:
    for line in _read(file).splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def _ticks(file: Path) -> int:
    # the name of the command stands in brackets and may hold blanks and brackets
    fields = _read(file).rpartition(")")[2].split()
    return sum(map(int, fields[_UTIME : _UTIME + 4]))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
