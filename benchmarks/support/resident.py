"""What the processes of a stack take: memory, from `/proc/*/smaps_rollup`, and processor time."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_KIB: Final = 1024
_STILL_SECONDS: Final = 10.0
_STILL: Final = 0.01
"""Share of the sum by which it may change while it counts as standing still."""
_FIELDS: Final = {
    "Rss": "rss",
    "Pss": "pss",
    "Private_Clean": "private",
    "Private_Dirty": "private",
}


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB of one process. pss: shared pages are counted by their share; private: not shared."""

    name: str
    rss: float
    pss: float
    private: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The processes of a stack at one moment."""

    processes: tuple[Memory, ...]

    @property
    def pss(self) -> float:
        """MiB of all, each page counted once."""
        return sum(each.pss for each in self.processes)

    @property
    def rss(self) -> float:
        """MiB of all, shared pages counted in each."""
        return sum(each.rss for each in self.processes)


def look(leaders: Mapping[str, int]) -> Snapshot:
    """Read all processes of the sessions that these processes lead.

    leaders: process ids by name; a process of a session is named for its part and itself.
    """
    names = {pid: name for name, pid in leaders.items()}
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        # a process may end meanwhile
        with suppress(OSError):
            pid = int(entry.name)
            leader = names.get(pid) or names.get(os.getsid(pid))
            if leader is not None:
                found.append(_read(entry, _named(leader, entry, leads=pid in names)))
    return Snapshot(tuple(sorted(found, key=lambda each: (each.name, -each.pss))))


def processor_seconds(leaders: Mapping[str, int]) -> float:
    """Processor time that all processes of the sessions took so far, ended children included."""
    total, sessions = 0, set(leaders.values())
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if int(entry.name) in sessions or os.getsid(int(entry.name)) in sessions:
                # after the name, which may hold spaces: utime, stime, cutime, cstime
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                total += sum(int(ticks) for ticks in fields[11:15])
    return total / os.sysconf("SC_CLK_TCK")


def _read(process: Path, name: str) -> Memory:
    sums = {"rss": 0.0, "pss": 0.0, "private": 0.0}
    for line in (process / "smaps_rollup").read_text().splitlines():
        word, _, value = line.partition(":")
        if word in _FIELDS:
            sums[_FIELDS[word]] += int(value.split()[0]) / _KIB
    return Memory(name, **sums)


def _named(leader: str, process: Path, *, leads: bool) -> str:
    if leads:
        return leader
    words = (process / "cmdline").read_text().split("\0")
    for word in words:
        # the stub of a Python stage is called with its `model.py`
        if word.endswith("/model.py"):
            return f"{leader}: {Path(word).parts[-3]}"
    modules = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "-m"]
    return f"{leader}: {modules[0] if modules else Path(words[0]).name}"


@dataclass(slots=True)
class Watcher:
    """The largest and all totals that were seen. totals: MiB of PSS, in order."""

    peak: Snapshot = Snapshot(())
    totals: list[float] = field(default_factory=list)


@contextmanager
def watching(leaders: Mapping[str, int], *, every_seconds: float = 0.5) -> Iterator[Watcher]:
    """Look again and again while the block runs."""
    watcher, stop = Watcher(), threading.Event()

    def run() -> None:
        while not stop.wait(every_seconds):
            seen = look(leaders)
            watcher.totals.append(seen.pss)
            if seen.pss > watcher.peak.pss:
                watcher.peak = seen

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield watcher
    finally:
        stop.set()
        thread.join()


def settled(leaders: Mapping[str, int], *, longest_seconds: float = 90.0) -> Snapshot:
    """Wait without requests until the sum stands still, then look.

    The vector engine closes shards that were replaced only some seconds later.
    """
    deadline = time.monotonic() + longest_seconds
    seen = look(leaders)
    while time.monotonic() < deadline:
        time.sleep(_STILL_SECONDS)
        before, seen = seen, look(leaders)
        if abs(seen.pss - before.pss) < _STILL * seen.pss:
            break
    return seen
