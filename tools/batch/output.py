"""Where answers go: a table, NDJSON, CSV or Parquet."""

import csv
import io
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.batch.journal import dump_line
from tools.batch.options import Format
from tools.batch.orders import Order, Row
from tools.batch.types import Line, printable
from tools.errors import BatchError

_FIRST: Final[Mapping[str, type]] = {"input": str, "sha256": str, "outcome": str}
_LAST: Final[Mapping[str, type]] = {"code": str, "detail": str}
_NOT_IN_TABLES: Final = frozenset(
    {"sha256", "face_id", "x1", "y1", "x2", "y2", "threshold", "code", "detail"}
)
"""What would leave no room on a terminal; standard error has the details of failures."""
_PARQUET: Final = "tools.batch.parquet"


class Sink(Protocol):
    """Takes lines as they are answered."""

    def write(self, position: int, line: Line) -> None:
        """Take the line of the input at a position, counted from 0."""

    def close(self) -> None:
        """Write what is left."""


def columns_of(order: Order) -> dict[str, type]:
    """Return the columns of an order's rows with their types."""
    return {**_FIRST, **order.columns, **_LAST}


def rows_of(order: Order, line: Line) -> Iterator[Row]:
    """Yield the rows of a line: one for each face, at least one."""
    error = line.error or {}
    shared = {
        "input": line.name,
        "sha256": line.sha256,
        "outcome": line.outcome.value,
        "code": error.get("code"),
        "detail": error.get("detail"),
    }
    rows = list(order.rows(line)) or [{}]
    for row in rows:
        yield {**dict.fromkeys(columns_of(order)), **shared, **row}


def open_sink(chosen: Format, order: Order, target: Path | None, stdout: IO[bytes]) -> Sink:
    """Open the output; raises BatchError if it cannot be written or a package is missing."""
    if chosen is Format.TABLE and target is None:
        return TableSink(order, Console())
    try:
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        if chosen is Format.PARQUET and target is not None:
            return _open_parquet(order, target)
        stream = stdout if target is None else target.open("wb")
    except OSError as error:
        raise BatchError(f"{target} cannot be written: {error.strerror}") from error
    if chosen is Format.NDJSON:
        return NdjsonSink(order, stream)
    if chosen is Format.CSV:
        return CsvSink(order, stream)
    text = io.TextIOWrapper(stream, encoding="utf-8")
    return TableSink(order, Console(file=text, width=200))


class NdjsonSink:
    """A line of JSON each, as soon as it is there."""

    def __init__(self, order: Order, stream: IO[bytes]) -> None:
        self._order = order
        self._stream = stream

    def write(self, position: int, line: Line) -> None:
        """See `Sink.write`."""
        self._stream.write(dump_line(line, self._order.header))
        self._stream.flush()

    def close(self) -> None:
        """See `Sink.close`."""
        self._stream.flush()


class CsvSink:
    """A row for each face, as soon as it is there."""

    def __init__(self, order: Order, stream: IO[bytes]) -> None:
        self._order = order
        self._text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.DictWriter(self._text, list(columns_of(order)))
        self._writer.writeheader()

    def write(self, position: int, line: Line) -> None:
        """See `Sink.write`."""
        self._writer.writerows(rows_of(self._order, line))
        self._text.flush()

    def close(self) -> None:
        """See `Sink.close`."""
        self._text.flush()
        # standard output stays open
        self._text.detach()


class TableSink:
    """A table in the order of the inputs, at the end."""

    def __init__(self, order: Order, console: Console) -> None:
        self._order = order
        self._console = console
        self._rows: list[tuple[int, int, list[str]]] = []
        self._names = [name for name in columns_of(order) if name not in _NOT_IN_TABLES]

    def write(self, position: int, line: Line) -> None:
        """See `Sink.write`."""
        for number, row in enumerate(rows_of(self._order, line)):
            cells = [_cell(row[name]) for name in self._names]
            self._rows.append((position, number, cells))

    def close(self) -> None:
        """See `Sink.close`."""
        rows = [cells for _, _, cells in sorted(self._rows)]
        shown = [
            index
            for index, name in enumerate(self._names)
            if any(row[index] for row in rows) or name == "outcome"
        ]
        if not rows:
            return
        table = Table()
        for index in shown:
            name = self._names[index]
            table.add_column(name, overflow="fold", no_wrap=name not in ("input", "subject"))
        for row in rows:
            table.add_row(*(Text(row[index]) for index in shown))
        self._console.print(table)
        self._console.file.flush()


def _open_parquet(order: Order, target: Path) -> Sink:
    try:
        module: Any = import_module(_PARQUET)
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        message = "--format parquet needs pyarrow: pip install 'aurum[parquet]'"
        raise BatchError(message) from error
    sink: Sink = module.ParquetSink(columns_of(order), lambda line: rows_of(order, line), target)
    return sink


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))
