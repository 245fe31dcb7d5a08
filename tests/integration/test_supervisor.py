"""The supervisor with small real processes in place of Triton and the gateway."""

import asyncio
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools.serving.errors import ServingError
from tools.serving.processes import is_alive
from tools.serving.state import ProcessRecord
from tools.serving.supervisor import Patience, Supervisor

HASTY = Patience(first_delay_seconds=0.01, longest_delay_seconds=0.02, restarts=3)


@dataclass
class Script:
    """A part that runs a Python script; it is ready once its log says `ready`."""

    name: str
    folder: Path
    script: str
    start_timeout_seconds: float = 20.0
    grace_seconds: float = 0.5
    cleaned: int = field(default=0)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def command(self) -> Sequence[str]:
        return (sys.executable, "-u", "-c", self.script)

    def environment(self) -> Mapping[str, str]:
        return {}

    async def is_ready(self, *, first: bool) -> bool:
        del first
        return "ready" in self.log.read_text()

    def last_error(self) -> str:
        return self.log.read_text().splitlines()[-1]

    def is_drained(self, log_bytes: int) -> bool:
        return b"drained" in self.log.read_bytes()[log_bytes:]

    def find_fault(self, pid: int) -> str:
        del pid
        return "it has lost its mind" if "lost" in self.log.read_text() else ""

    def prepare_restart(self, report: Callable[[str], None]) -> None:
        report(f"preparing {self.name}")

    def clean_up(self) -> None:
        self.cleaned += 1


class Watch:
    """Takes what a supervisor says and notes every process it started."""

    def __init__(
        self, *parts: Script, optional: Collection[str] = (), late: Collection[str] = ()
    ) -> None:
        self.lines: list[str] = []
        self.phases: list[str] = []
        self.seen: dict[int, ProcessRecord] = {}
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.started = asyncio.Event()
        self.supervisor = Supervisor(
            parts,
            report=self.lines.append,
            listener=self._note,
            patience=HASTY,
            optional=optional,
            late=late,
        )

    async def run(self) -> None:
        async with asyncio.timeout(60):
            await self.supervisor.run(stop=self.stop, on_ready=self.ready.set)

    def _note(self, phase: str, running: dict[str, ProcessRecord]) -> None:
        self.phases.append(phase)
        self.started.set()
        self.seen |= {record.pid: record for record in running.values()}


async def test_stop_ends_a_part_that_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = Script(
        "stubborn",
        tmp_path,
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)",
    )
    polite = Script("polite", tmp_path, "import time; print('ready'); time.sleep(60)")
    watch = Watch(stubborn, polite)
    run = asyncio.create_task(watch.run())
    await watch.ready.wait()
    assert len(watch.seen) == 2

    watch.stop.set()
    await run

    assert not any(is_alive(record) for record in watch.seen.values())
    assert stubborn.cleaned == polite.cleaned == 1


async def test_a_drained_part_is_not_waited_for(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(15, lambda *_: print('drained'));"
        "print('ready'); [time.sleep(60) for _ in range(2)]"
    )
    drained = Script("drained", tmp_path, script, grace_seconds=3600.0)
    last = Script("last", tmp_path, "import time; print('ready'); time.sleep(60)")
    watch = Watch(drained, last)
    run = asyncio.create_task(watch.run())
    await watch.ready.wait()

    watch.stop.set()
    await run

    assert not any(is_alive(record) for record in watch.seen.values())
    assert drained.cleaned == 1


async def test_a_part_that_runs_but_cannot_work_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.serving.part._LOOK_EVERY_SECONDS", 0.05)
    script = "import time; print('ready'); print('lost'); time.sleep(60)"
    broken = Script("broken", tmp_path, script, grace_seconds=3600.0)
    last = Script("last", tmp_path, "import time; print('ready'); time.sleep(60)")
    watch = Watch(broken, last)

    with pytest.raises(ServingError, match=r"giving up after 3 restarts: broken cannot go on: it"):
        await watch.run()

    assert not any(is_alive(record) for record in watch.seen.values())


async def test_part_that_dies_is_started_again_and_given_up_at_last(tmp_path: Path) -> None:
    short = Script("short", tmp_path, "import time; print('ready'); time.sleep(0.2); 1 / 0")
    steady = Script("steady", tmp_path, "import time; print('ready'); time.sleep(60)")
    watch = Watch(steady, short)

    with pytest.raises(ServingError, match=r"giving up after 3 restarts: short ended with code 1"):
        await watch.run()

    assert len(watch.seen) == 1 + 1 + HASTY.restarts
    assert watch.phases.count("restarting") >= HASTY.restarts
    assert watch.lines.count("preparing short") == HASTY.restarts
    assert not any(is_alive(record) for record in watch.seen.values())


async def test_part_that_dies_before_it_was_ever_ready_ends_the_start(tmp_path: Path) -> None:
    first = Script("first", tmp_path, "import time; print('ready'); time.sleep(60)")
    broken = Script("broken", tmp_path, "raise SystemExit('no such thing')")
    watch = Watch(first, broken)

    with pytest.raises(ServingError, match=r"broken ended with code 1: no such thing; log: "):
        await watch.run()

    assert not watch.ready.is_set()
    assert len(watch.seen) == 2
    assert not any(is_alive(record) for record in watch.seen.values())


async def test_stop_during_the_start_ends_it(tmp_path: Path) -> None:
    slow = Script("slow", tmp_path, "import time; time.sleep(60)")
    watch = Watch(slow)
    run = asyncio.create_task(watch.run())
    await watch.started.wait()

    watch.stop.set()
    await run

    assert not watch.ready.is_set()
    assert not any(is_alive(record) for record in watch.seen.values())


async def test_an_optional_part_that_cannot_be_kept_is_left_out(tmp_path: Path) -> None:
    short = Script("short", tmp_path, "import time; print('ready'); time.sleep(0.1); 1 / 0")
    broken = Script("broken", tmp_path, "raise SystemExit('no such thing')")
    steady = Script("steady", tmp_path, "import time; print('ready'); time.sleep(60)")
    watch = Watch(short, broken, steady, optional={"short", "broken"})
    run = asyncio.create_task(watch.run())
    await watch.ready.wait()
    async with asyncio.timeout(60):
        while sum("going on without" in line for line in watch.lines) < 2:
            await asyncio.sleep(0.05)
    assert not run.done()
    assert watch.phases[-1] == "ready"
    assert sum(is_alive(record) for record in watch.seen.values()) == 1

    watch.stop.set()
    await run
    assert short.cleaned >= 1
    assert broken.cleaned == 1


async def test_a_late_part_is_started_once_the_others_are_ready(tmp_path: Path) -> None:
    steady = Script("steady", tmp_path, "import time; print('ready'); time.sleep(60)")
    late = Script("late", tmp_path, "import time; print('ready'); time.sleep(60)")
    watch = Watch(steady, late, late=["late"])
    run = asyncio.create_task(watch.run())
    await watch.ready.wait()
    assert len(watch.seen) == 1
    async with asyncio.timeout(60):
        while len(watch.seen) < 2:
            await asyncio.sleep(0.01)
    assert watch.phases[-1] == "ready"

    watch.stop.set()
    await run

    assert not any(is_alive(record) for record in watch.seen.values())
    assert (steady.cleaned, late.cleaned) == (1, 1)


async def test_a_late_part_that_cannot_be_kept_is_left_out(tmp_path: Path) -> None:
    steady = Script("steady", tmp_path, "import time; print('ready'); time.sleep(60)")
    late = Script("late", tmp_path, "print('ready'); raise SystemExit('no work')")
    watch = Watch(steady, late, late=["late"])
    run = asyncio.create_task(watch.run())
    said = "giving up after 3 restarts: late ended with code 1: no work"
    async with asyncio.timeout(60):
        while not any(said in line for line in watch.lines):
            await asyncio.sleep(0.01)
    # those who ask whether the stack is ready do not hear of it
    assert "restarting" not in watch.phases
    assert not run.done()

    watch.stop.set()
    await run

    assert not any(is_alive(record) for record in watch.seen.values())


async def test_the_last_part_and_late_ones_are_stopped_before_the_others(tmp_path: Path) -> None:
    script = (
        "import signal, sys, time, pathlib;"
        "signal.signal(15, lambda *_: (open({order!r}, 'a').write({name!r} + ' '), sys.exit()));"
        "print('ready'); time.sleep(60)"
    )
    order = str(tmp_path / "order")
    parts = [
        Script(name, tmp_path, script.format(order=order, name=name), grace_seconds=20.0)
        for name in ("upstream", "asking", "late")
    ]
    watch = Watch(*parts, late=["late"])
    run = asyncio.create_task(watch.run())
    async with asyncio.timeout(60):
        while not all(part.log.exists() and "ready" in part.log.read_text() for part in parts):
            await asyncio.sleep(0.01)

    watch.stop.set()
    await run

    assert Path(order).read_text().split()[-1] == "upstream"
