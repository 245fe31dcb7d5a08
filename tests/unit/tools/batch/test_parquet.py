"""Rows as Parquet."""

from importlib import import_module

import pytest

COLUMNS = {"input": str, "face": int, "x1": float, "acceptable": bool}


def rows_of(count):
    yield from ({"input": "é", "face": i, "x1": 1, "acceptable": None} for i in range(count))


@pytest.fixture
def pq():
    # where it is missing, these tests fail and the others still run
    return import_module("pyarrow.parquet")


@pytest.fixture
def sink_class(pq):
    return import_module("tools.batch.parquet").ParquetSink


def test_rows_have_types_and_come_in_their_order(tmp_path, pq, sink_class):
    path = tmp_path / "a.parquet"
    sink = sink_class(COLUMNS, rows_of, path)
    for position, count in enumerate((2, 9_999, 1)):
        sink.write(position, count)
    sink.close()
    table = pq.read_table(path)
    assert [str(kind) for kind in table.schema.types] == ["string", "int64", "double", "bool"]
    assert table.column("face").to_pylist() == [0, 1, *range(9_999), 0]
    assert table.slice(0, 1).to_pylist() == [
        {"input": "é", "face": 0, "x1": 1.0, "acceptable": None}
    ]
    # a group is written as soon as it is full
    assert pq.ParquetFile(path).num_row_groups == 2


def test_no_rows_are_a_file_too(tmp_path, pq, sink_class):
    sink_class(COLUMNS, rows_of, tmp_path / "a.parquet").close()
    assert pq.read_table(tmp_path / "a.parquet").num_rows == 0
