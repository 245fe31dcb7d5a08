"""Try every failure on a stack under load and write what its callers see.

    python -m benchmarks.failures [--only WORDS] [--no-pairs]

Each component is killed, paused, slowed down and made to answer garbage, alone and together with
each other one. Writes `benchmarks/results/failures.json` and the table of `docs/reliability.md`.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.failures import faults, report
from benchmarks.failures.judge import Case
from benchmarks.failures.matrix import loaded, pairs, run_all
from benchmarks.failures.stack import Records, running

_GROUPS = (
    faults.TRITON,
    faults.REDIS,
    faults.VECTORS,
    faults.POSTGRESQL,
    faults.OBJECTS,
    faults.WORKER,
)


def main(
    only: Annotated[str, typer.Option(help="Only cases with this text in their name.")] = "",
    with_pairs: Annotated[bool, typer.Option("--pairs/--no-pairs")] = True,
    write: Annotated[bool, typer.Option(help="Write results and table.")] = True,
    keep: Annotated[
        Path | None, typer.Option(help="Empty folder that keeps homes and logs.")
    ] = None,
) -> None:
    """Run all cases, say what each showed, and write the table."""
    singles = [(fault,) for group in _GROUPS for fault in group]
    doubles = pairs(_GROUPS) if with_pairs else []
    gateway = [(fault,) for fault in faults.GATEWAY]
    sqlite = [(fault,) for fault in faults.SQLITE]

    def note(case: Case) -> None:
        report.say(case)
        if write:
            report.keep(case)

    done = asyncio.run(_run("postgresql", [*singles, *gateway, *doubles], only, keep, note))
    done += asyncio.run(_run("sqlite", sqlite, only, keep, note))
    raise typer.Exit(1 if any(case.wrong for case in done) else 0)


async def _run(
    records: Records,
    cases: Sequence[Sequence[faults.Fault]],
    only: str,
    keep: Path | None,
    note: Callable[[Case], None],
) -> list[Case]:
    chosen = [each for each in cases if only in " + ".join(fault.name for fault in each)]
    if not chosen:
        return []
    with tempfile.TemporaryDirectory(prefix="aurum-failures-") as scratch:
        folder = keep / records if keep is not None else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        async with running(folder, records=records) as stack, loaded(stack) as load:
            return await run_all(stack, load, chosen, report=note)


if __name__ == "__main__":
    typer.run(main)
