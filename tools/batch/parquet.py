"""Writes rows as Parquet; needs the extra `parquet`."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS_AT_ONCE: Final = 10_000
_TYPES: Final = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


class ParquetSink:
    """Collects rows and writes them in groups; the file is complete after `close`."""

    def __init__(
        self,
        columns: Mapping[str, type],
        rows_of: Callable[[Any], Iterable[Mapping[str, Any]]],
        target: Path,
    ) -> None:
        self._rows_of = rows_of
        self._schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
        self._writer = pq.ParquetWriter(target, self._schema)
        self._rows: list[Mapping[str, Any]] = []

    def write(self, position: int, line: Any) -> None:
        """Take a line."""
        self._rows += self._rows_of(line)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []
