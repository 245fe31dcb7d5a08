"""Does a stack hold more after 10,000 hostile requests than before?

    python -m benchmarks.hostile [--requests 10000]

Sends the inputs of `tests/e2e/hostile/` again and again, with bytes changed at random, and notes
memory, threads and open files of the gateway and Triton, with their child processes, every 1,000
requests. The first pass over all inputs is a warm-up. Prints a table and writes JSON.
"""

import asyncio
import os
import platform
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from http import HTTPStatus
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import orjson
import requests
import typer
from rich.console import Console
from rich.table import Table

from tests.e2e.hostile.case import Case
from tests.e2e.hostile.driver import Sent, send_all
from tests.e2e.hostile.mutations import mutated
from tests.e2e.hostile.resources import Resources
from tests.e2e.hostile.table import all_cases
from tests.e2e.hostile.wire import COLLECTION
from tests.support.serving import (
    Served,
    add_shipped_weights,
    copy_repository,
    make_settings,
    serving,
)

RESULTS: Final = Path(__file__).parent / "results" / "hostile.json"
_STEP: Final = 1000
_MEBIBYTE: Final = 1 << 20


def main(
    total: Annotated[int, typer.Option("--requests")] = 10_000,
    seed: int = 1,
    output: Path = RESULTS,
) -> None:
    """Measure, print and write."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="aurum-hostile-") as folder:
        repository = copy_repository(Path(folder, "model_repository"))
        if not add_shipped_weights(repository):
            raise typer.BadParameter("model_repository has no weights")
        settings = make_settings(
            Path(folder),
            repository,
            request_timeout_seconds=60.0,
            cache="off",
            max_wait_seconds=60.0,
            workers=1,
        )
        with serving(settings) as stack:
            stack.wait_for("Aurum is ready")
            rows, statuses, failed = _measure(stack, total, chance)
    _print(rows, statuses)
    Console().print(failed)
    written = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "versions": {name: version(name) for name in ("aiohttp", "numpy", "opencv-python-headless")}
        | {"python": platform.python_version()},
        "seed": seed,
        "statuses": statuses,
        "failed": failed,
        "rows": rows,
    }
    output.write_bytes(orjson.dumps(written, option=orjson.OPT_INDENT_2))


def _measure(
    stack: Served, total: int, chance: random.Random
) -> tuple[list[dict[str, Any]], dict[str, int], list[str]]:
    """Send; returns what was held by number of requests, the statuses, and what failed."""
    made = requests.post(f"{stack.url}/api/collections", json={"name": COLLECTION}, timeout=60)
    made.raise_for_status()
    pids = [stack.part_pid(part) for part in ("gateway", "triton")]
    statuses: Counter[str] = Counter()
    started = time.monotonic()
    cases = all_cases()
    _send(stack, cases)
    rows = [_row(stack, 0, started)]
    sent, changed = 0, _without_end(cases, chance)
    failed: list[str] = []
    while sent < total:
        answers = _send(stack, islice(changed, _STEP // 2))
        sent += len(answers)
        failed += [said for each in answers if (said := _failure(each))]
        statuses.update(str(each.answer.status if each.answer else None) for each in answers)
        if sent // _STEP > rows[-1]["requests"] // _STEP:
            rows.append(_row(stack, sent, started))
            Console().print(rows[-1])
    if pids != [stack.part_pid(part) for part in ("gateway", "triton")]:
        raise RuntimeError("a part of the stack died")
    return rows, dict(statuses), failed


def _without_end(cases: list[Case], chance: random.Random) -> Iterator[Case]:
    """Yield the inputs in a new order and with other bytes, again and again."""
    while True:
        chance.shuffle(cases)
        yield from mutated(cases, chance)


def _send(stack: Served, cases: Any) -> list[Sent]:
    place = urlsplit(stack.url)
    return list(asyncio.run(send_all(str(place.hostname), place.port or 80, cases)))


def _failure(sent: Sent) -> str | None:
    """Say what was not answered, or with 5xx; None for everything else."""
    answer = sent.answer
    if answer is not None and answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    said = "no answer" if answer is None else answer.body[:500].decode()
    return f"{sent.case.kind}: {sent.case.name} -> {sent.route}: {said}"


def _row(stack: Served, sent: int, started: float) -> dict[str, Any]:
    held = asdict(Resources.of(stack))
    memory = {part: round(size / _MEBIBYTE) for part, size in held["memory"].items()}
    seconds = round(time.monotonic() - started)
    return {"requests": sent, "seconds": seconds, **held, "memory": memory}


def _print(rows: list[dict[str, Any]], statuses: dict[str, int]) -> None:
    parts = list(rows[0]["memory"])
    kinds = ("memory", "threads", "files")
    table = Table("requests", *[f"{kind} of {part}" for kind in kinds for part in parts])
    for row in rows:
        held = [str(row[kind][part]) for kind in kinds for part in parts]
        table.add_row(str(row["requests"]), *held)
    Console().print(table, statuses)


if __name__ == "__main__":
    typer.run(main)
