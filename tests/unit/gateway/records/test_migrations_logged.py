"""A migration that older releases cannot bear is logged; a new database is not."""

import logging
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from gateway.records.migrate import upgrade


def test_who_must_be_stopped_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'records'}")
    with caplog.at_level(logging.WARNING, "gateway.records.migrate"), engine.begin() as connection:
        upgrade(connection, "0009")
        assert caplog.records == []
        upgrade(connection)
        upgrade(connection)
    (record,) = caplog.records
    assert "must be stopped" in record.message
    assert vars(record)["from_tables"] == "0009"
    assert vars(record)["oldest_that_works"] >= "0010"
    engine.dispose()
