"""Alternated rounds: start a service, let it rest, load it, stop it; one at a time."""

import http.client
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.peers.install import reason_in
from benchmarks.peers.service import NotRunError, Request, Service
from benchmarks.support.load import Answered, run, timed
from benchmarks.support.processes import cpu_seconds_of, pss_of, rss_of
from benchmarks.support.served import free_ports

CALLERS: Final = 8
_START_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.02
_SAMPLE_SECONDS: Final = 0.25
_MIB: Final = 2**20


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    rounds: those that count, after one that does not. seconds: of each of a photo's three loads,
    with one caller, with eight, and with eight while memory is read. rest_seconds: between the
    first answers and the reading of idle memory.
    """

    rounds: int = 7
    seconds: float = 5.0
    rest_seconds: float = 8.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One service and one photo in one round; times in the units of their names."""

    photos_per_second: float
    one_caller_p50_ms: float
    one_caller_p95_ms: float
    eight_callers_p50_ms: float
    eight_callers_p95_ms: float
    processor_ms_per_photo: float
    idle_pss_mib: float
    idle_rss_mib: float
    peak_pss_mib: float
    peak_rss_mib: float
    start_seconds: float
    stop_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one service: figures by photo, one for each round, or why there are none."""

    figures: Mapping[str, list[Figures]]
    faces: Mapping[str, int]
    not_run: str | None = None


class Memory:
    """Most memory of a group of processes, read again and again in a thread."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self.pss = self.rss = 0

    def read(self) -> None:
        """Read once."""
        self.pss = max(self.pss, pss_of(self._pids))
        self.rss = max(self.rss, rss_of(self._pids))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Read until the block ends, and once more then."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(_SAMPLE_SECONDS):
                self.read()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.read()


def compare(
    services: Sequence[Service],
    photos: Mapping[str, bytes],
    plan: Plan,
    *,
    logs: Path,
    console: Console,
) -> dict[str, Outcome]:
    """Measure all in rounds, each begun by another service; a service that fails leaves."""
    outcomes = {each.name: Outcome({name: [] for name in photos}, {}) for each in services}
    left = list(services)
    for number in range(plan.rounds + 1):
        shift = number % max(len(left), 1)
        for service in [*left[shift:], *left[:shift]]:
            began = time.monotonic()
            log = logs / f"{service.name.replace(' ', '-').lower()}.log"
            try:
                figures, faces = _round(service, photos, plan, log)
            except NotRunError as error:
                outcomes[service.name] = Outcome({}, {}, str(error))
                left.remove(service)
                console.print(f"{service.name}: not measured: {error}")
                continue
            outcome = outcomes[service.name]
            outcomes[service.name] = Outcome(outcome.figures, faces)
            if number:
                for name, values in figures.items():
                    outcome.figures[name].append(values)
            spent = time.monotonic() - began
            label = f"round {number} of {plan.rounds}" if number else "warm-up"
            console.print(f"{label}: {service.name}, {spent:.0f} s")
    return outcomes


def _round(
    service: Service, photos: Mapping[str, bytes], plan: Plan, log: Path
) -> tuple[dict[str, Figures], dict[str, int]]:
    requests = {name: service.request(photo) for name, photo in photos.items()}
    port = free_ports(1)[0]
    with log.open("wb") as output:
        started = time.perf_counter()
        launched = service.launch(port, output)
        try:
            _first_answer(launched, port, next(iter(requests.values())), log)
            start_seconds = time.perf_counter() - started
            faces = {name: _faces(service, port, request) for name, request in requests.items()}
            pids = service.processes(launched)
            time.sleep(plan.rest_seconds)
            idle = Memory(pids)
            idle.read()
            loads = {name: _loaded(port, request, pids, plan) for name, request in requests.items()}
        finally:
            stopping = time.perf_counter()
            service.stop(launched)
            stop_seconds = time.perf_counter() - stopping
    found = {
        name: Figures(
            photos_per_second=eight.rate(),
            one_caller_p50_ms=one.percentile(0.5),
            one_caller_p95_ms=one.percentile(0.95),
            eight_callers_p50_ms=eight.percentile(0.5),
            eight_callers_p95_ms=eight.percentile(0.95),
            processor_ms_per_photo=1000 * spent / eight.counts[200],
            idle_pss_mib=idle.pss / _MIB,
            idle_rss_mib=idle.rss / _MIB,
            peak_pss_mib=peak.pss / _MIB,
            peak_rss_mib=peak.rss / _MIB,
            start_seconds=start_seconds,
            stop_seconds=stop_seconds,
        )
        for name, (one, eight, spent, peak) in loads.items()
    }
    return found, faces


def _loaded(
    port: int, request: Request, pids: Sequence[int], plan: Plan
) -> tuple[Answered, Answered, float, Memory]:
    """One caller, eight callers, their processor seconds, and memory in a load of its own."""
    peak = Memory(pids)
    with peak.watched():  # also warms up; reading memory costs processor time
        _load(port, request, CALLERS, plan.seconds)
    one = _load(port, request, 1, plan.seconds)
    before = cpu_seconds_of(pids)
    eight = _load(port, request, CALLERS, plan.seconds)
    return one, eight, cpu_seconds_of(pids) - before, peak


def _load(port: int, request: Request, callers: int, seconds: float) -> Answered:
    url, kind = f"http://127.0.0.1:{port}{request.path}", request.content_type
    load = timed(url, request.body, callers=callers, seconds=seconds, content_type=kind)
    answered = run(load)
    if set(answered.counts) != {200}:
        counts = ", ".join(f"{status}: {count}" for status, count in answered.counts.items())
        raise NotRunError(f"not all requests of {callers} callers were answered ({counts})")
    return answered


def _first_answer(
    launched: subprocess.Popen[bytes], port: int, request: Request, log: Path
) -> None:
    """Ask until the photo is answered; raises NotRunError if that takes too long or it ends."""
    deadline, said = time.monotonic() + _START_SECONDS, "it does not listen"
    while time.monotonic() < deadline:
        try:
            status, body = ask(port, request)
        except (OSError, http.client.HTTPException):
            if launched.poll():
                raise NotRunError(f"it does not start: {reason_in(log)}") from None
            time.sleep(_POLL_SECONDS)
            continue
        if status == 200:
            return
        said = f"it answers {status}: {body[:200].decode(errors='replace')}"
        time.sleep(_POLL_SECONDS)
    raise NotRunError(f"no answer within {_START_SECONDS:.0f} s of its start: {said}")


def _faces(service: Service, port: int, request: Request) -> int:
    status, body = ask(port, request)
    try:
        return service.faces(body)
    except (ValueError, LookupError, TypeError) as error:
        raise NotRunError(f"its answer ({status}) cannot be read: {error!r}") from error


def ask(port: int, request: Request) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
    headers = {"Content-Type": request.content_type, "Accept": "*/*"}
    try:
        connection.request("POST", request.path, request.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
