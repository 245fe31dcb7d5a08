"""What the bulk commands do around a run: check options, open the output, report, exit."""

import asyncio
import io
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import IO, Final, NoReturn

import typer
from rich.console import Console

from gateway.archives.types import DEFAULT_LIMITS
from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings
from tools.batch.inputs import STDIN, Sources, find_sources, read_sources
from tools.batch.journal import Journal
from tools.batch.options import Format, Options
from tools.batch.orders import Order
from tools.batch.output import open_sink
from tools.batch.progress import ProgressBar
from tools.batch.run import Batch, Summary, Targets
from tools.batch.service import Service
from tools.batch.sheet import ContactSheet
from tools.batch.types import Outcome, printable
from tools.clients.api_key import key_headers
from tools.clients.listeners import gateway_url
from tools.errors import BatchError
from tools.serving.home import resolve

_LISTED: Final = 100
_INTERRUPTED: Final = 130
_WORDS: Final = {
    Outcome.ANSWERED: "answered",
    Outcome.NO_FACE: "without a face",
    Outcome.ENROLLED: "enrolled",
    Outcome.DUPLICATE: "already there",
    Outcome.REFUSED: "refused",
    Outcome.FAILED: "failed",
}
Prepare = Callable[[Settings], AbstractAsyncContextManager[Order]]
"""Opens what a command asks, and makes its order."""


def carry_out(options: Options, prepare: Prepare, *, parallel: int) -> NoReturn:
    """Run a bulk command and exit with its status."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    try:
        settings = resolve(load_settings())
        chosen = options.chosen_format(is_terminal=sys.stdout.isatty())
        # before the loop starts, so that Ctrl-C ends waiting for standard input
        sources, stdin = _sources(options)
        work = _carry_out(options, chosen, prepare(settings), errors, parallel, sources, stdin)
        status = asyncio.run(work)
    except (BatchError, ConfigurationError) as error:
        errors.print(f"error: {printable(str(error))}")
        status = error.exit_status if isinstance(error, BatchError) else BatchError.exit_status
    except (KeyboardInterrupt, asyncio.CancelledError):
        errors.print(_how_to_go_on(options))
        status = _INTERRUPTED
    raise typer.Exit(status)


def open_service(options: Options, settings: Settings, api_key_file: Path | None) -> Service:
    """Make the client of a gateway: of `--url`, or where the settings let it listen."""
    address = options.url or gateway_url(settings)
    headers = key_headers(settings, api_key_file)
    return Service(address, parallel=options.parallel, headers=headers, settings=settings)


def _sources(options: Options) -> tuple[Sources, IO[bytes]]:
    without = [options.draw] if options.draw is not None else []
    stdin: IO[bytes] = sys.stdin.buffer
    sources = find_sources(
        options.paths, stdin=stdin, stdin_is_list=options.from_list, without=without
    )
    if STDIN in options.paths and not options.from_list:
        stdin = io.BytesIO(stdin.read(DEFAULT_LIMITS.member_bytes + 1))
    return sources, stdin


async def _carry_out(
    options: Options,
    chosen: Format,
    prepared: AbstractAsyncContextManager[Order],
    errors: Console,
    parallel: int,
    sources: Sources,
    stdin: IO[bytes],
) -> int:
    async with prepared as order:
        targets = _open(options, chosen, order)
        try:
            with ProgressBar(errors, sources.total_bytes) as progress:
                batch = Batch(order, targets, progress, parallel=parallel)
                summary = await batch.run(read_sources(sources, stdin=stdin))
        finally:
            _close(targets)
    return _report(summary, options, errors)


def _open(options: Options, chosen: Format, order: Order) -> Targets:
    journal = sink = None
    if options.output is not None and chosen is Format.NDJSON:
        journal = Journal.open(options.output, order.header, resume=options.resume)
    else:
        sink = open_sink(chosen, order, options.output, sys.stdout.buffer)
    sheet = None
    if options.html is not None:
        sheet = ContactSheet(options.html, " ".join(("aurum", *order.header.values())))
    return Targets(sink, journal, options.draw, sheet)


def _close(targets: Targets) -> None:
    try:
        for each in (targets.sink, targets.journal, targets.sheet):
            if each is not None:
                each.close()
    except OSError as error:
        raise BatchError(f"the output cannot be written: {error.strerror or error}") from error


def _report(summary: Summary, options: Options, errors: Console) -> int:
    for line in summary.failures[:_LISTED]:
        error = line.error or {}
        text = f"{line.outcome.value}: {line.name}: {error.get('code')}: {error.get('detail')}"
        errors.print(printable(text))
    bad = summary.outcomes[Outcome.FAILED] + summary.outcomes[Outcome.REFUSED]
    if bad > _LISTED:
        where = "" if options.output is None else f", all in {options.output}"
        errors.print(f"… and {bad - _LISTED:,} more{where}")
    errors.print(_sentence(summary))
    if summary.error is not None:
        errors.print(f"error: {printable(str(summary.error))}")
    if summary.error is not None or summary.interrupted:
        errors.print(_how_to_go_on(options))
    elif not summary.photos:
        errors.print("error: no image was found")
        return BatchError.exit_status
    return summary.exit_status


def _sentence(summary: Summary) -> str:
    counts = [
        f"{number:,} {_WORDS[outcome]}"
        for outcome in Outcome
        if (number := summary.outcomes[outcome])
    ]
    reasons = Counter((line.error or {}).get("code") for line in summary.failures)
    if reasons:
        listed = ", ".join(f"{code} {number:,}" for code, number in reasons.most_common())
        counts[-1] += f" ({listed})"
    further = {
        "answered by an earlier run": summary.resumed,
        "skipped (not JPEG, PNG, WebP or BMP)": summary.skipped,
        "repeated": summary.repeated,
        "not drawn": summary.undrawn,
    }
    counts += [f"{number:,} {word}" for word, number in further.items() if number]
    photos = "1 photo" if summary.photos == 1 else f"{summary.photos:,} photos"
    return f"{photos}: {', '.join(counts) or 'nothing to do'}"


def _how_to_go_on(options: Options) -> str:
    if options.output is not None and _is_journal(options.output, options.format):
        return f"stopped; the same command with --resume goes on with {options.output}"
    return "stopped; with --output FILE.ndjson, --resume could go on"


def _is_journal(output: Path, chosen: Format | None) -> bool:
    if chosen is None:
        return output.suffix.lower() not in (".csv", ".parquet")
    return chosen is Format.NDJSON
