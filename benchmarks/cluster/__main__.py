"""Run the production stack on many hosts, in small, and lose each of them under load.

    python -m benchmarks.cluster [--only WORDS] [--short] [--again]

Needs root: each part gets a network namespace of its own. Writes `benchmarks/results/cluster.json`
and the table of `docs/reliability.md`.
"""

import asyncio
import json
import math
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from aurum_client import AsyncAurumClient

from benchmarks.cluster import network, report
from benchmarks.cluster.callers import COLLECTION
from benchmarks.cluster.databases import until
from benchmarks.cluster.faults import ALL, Fault
from benchmarks.cluster.hosts import TRITON, Cluster, running
from benchmarks.cluster.look import look
from benchmarks.support.served import CHECKOUT
from tools.serving.triton_install import install

AFTER_SECONDS = 5.0
"""How long callers go on after a fault, before the next one."""

LONGEST_CALL_SECONDS = 75.0
"""The client's own limit is a minute."""


def main(
    only: Annotated[
        str, typer.Option(help="Faults with one of these texts, split by commas.")
    ] = "",
    short: Annotated[bool, typer.Option(help="Only the faults of the test.")] = False,
    again: Annotated[bool, typer.Option(help="Forget the results of earlier runs.")] = False,
    results: Annotated[Path, typer.Option(help="File of the results.")] = report.RESULTS,
    write: Annotated[bool, typer.Option(help="Write the table of the documentation.")] = True,
    keep: Annotated[Path | None, typer.Option(help="Empty folder that keeps homes, logs.")] = None,
    isolated: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run the faults; add their rows to the results."""
    if not isolated:
        # from its namespaces nothing can be downloaded
        install(TRITON, report=print)
        network.isolate(sys.argv[1:])
    words = only.split(",")
    chosen = [
        each
        for each in ALL
        if (each.is_short or not short) and any(word in each.name for word in words)
    ]
    rows, kept = ([], report.Kept()) if again else report.read(results)
    with tempfile.TemporaryDirectory(prefix="aurum-cluster-", dir="/tmp") as scratch:
        folder = keep or Path(scratch)
        # PostgreSQL runs as a user of its own
        folder.chmod(0o711)
        new, found = asyncio.run(_run(folder, chosen))
    names = {row.fault for row in new}
    rows = [*(row for row in rows if row.fault not in names), *new]
    order = [fault.name for fault in ALL]
    rows.sort(key=lambda row: order.index(row.fault) if row.fault in order else len(order))
    kept += found
    report.write(rows, kept, results)
    if write:
        report.document(rows, kept)
    print(report.table(new, found))


async def _run(folder: Path, faults: Sequence[Fault]) -> tuple[list[report.Row], report.Kept]:
    async with running(folder) as cluster:
        async with AsyncAurumClient(cluster.url, api_key=cluster.key) as client:
            await client.create_collection(COLLECTION)
        seen = folder / "seen.jsonl"
        module = (sys.executable, "-m", "benchmarks.cluster.callers")
        command = cluster.hosts["client"].command(*module, cluster.url, cluster.key, str(seen), "a")
        callers = await asyncio.create_subprocess_exec(*command, cwd=CHECKOUT)
        try:
            # each kind of request has had an answer
            await until(lambda: any(x["kind"] == "job" for x in _lines(seen)), "a first job")
            spans = [await _happen(cluster, fault, callers) for fault in faults]
        finally:
            callers.send_signal(signal.SIGTERM)
            await asyncio.wait_for(callers.wait(), LONGEST_CALL_SECONDS)
        lines = _lines(seen)
        bounds = [begin for _, begin, _ in spans[1:]] + [math.inf]
        rows = [
            _row(fault, end - begin, begin, bound, lines)
            for (fault, begin, end), bound in zip(spans, bounds, strict=True)
        ]
        for row in rows:
            report.say(row)
        return rows, await look(cluster.url, cluster.key, lines)


async def _happen(
    cluster: Cluster, fault: Fault, callers: asyncio.subprocess.Process
) -> tuple[Fault, float, float]:
    begin = time.monotonic()
    await fault.happen(cluster)
    await asyncio.sleep(AFTER_SECONDS)
    if callers.returncode is not None:
        raise RuntimeError("the callers ended")
    return fault, begin, time.monotonic()


def _lines(seen: Path) -> list[dict[str, Any]]:
    if not seen.exists():
        return []
    # the last one may not be complete yet
    return [json.loads(line) for line in seen.read_text().split("\n")[:-1]]


def _row(
    fault: Fault, seconds: float, begin: float, bound: float, lines: list[dict[str, Any]]
) -> report.Row:
    """Take the requests that ended from the begin of the fault until the next one began."""
    answers = [
        x for x in lines if x["kind"] == "answer" and begin <= x["at"] + x["seconds"] < bound
    ]
    return report.Row(
        fault.name,
        fault.away,
        round(seconds, 1),
        report.summarise(answers, retries=True),
        report.summarise(answers, retries=False),
    )


if __name__ == "__main__":
    typer.run(main)
