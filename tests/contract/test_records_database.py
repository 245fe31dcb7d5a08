"""Databases of the records: migrated once, durable when killed, errors that name them."""

import asyncio
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from gateway.errors import ConfigurationError, StorageUnavailableError
from gateway.records.database import Database
from gateway.records.engines import sqlite_url
from gateway.records.store import RecordStore
from gateway.records.tables import METADATA
from tests.support.face_records import a_collection, a_face


async def test_migrations_produce_the_tables_of_the_code(database_url: str) -> None:
    database = await Database.open(database_url)

    def compare(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    try:
        async with database.read() as connection:
            assert await connection.run_sync(compare) == []
    finally:
        await database.close()


async def test_simultaneous_starts_migrate_once(database_url: str) -> None:
    stores = await asyncio.gather(*(RecordStore.open(database_url) for _ in range(4)))
    try:
        await stores[0].collections.add(a_collection())
        for store in stores:
            assert await store.collections.find(tenant="default", name="people") is not None
    finally:
        for store in stores:
            await store.close()


async def test_an_aborted_transaction_changes_nothing(records: RecordStore) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    face = a_face(collection)
    await records.faces.begin([face])
    other = replace(face, id=str(uuid.uuid4()), image_sha256="1" * 64)
    again = replace(face, image_sha256="2" * 64)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await records.faces.begin([other, again])
    assert [f.id for f in await records.faces.in_state("pending")] == [face.id]


_WRITER = """
import asyncio, sys
from gateway.records.store import RecordStore
from tests.support.face_records import a_collection
async def main():
    records = await RecordStore.open(sys.argv[1])
    number = 0
    while True:
        await records.collections.add(a_collection(f"c{number}"))
        sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
        number += 1
asyncio.run(main())
"""


async def test_a_killed_writer_loses_nothing_acknowledged(database_url: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, database_url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert writer.stdout is not None
    last = -1
    try:
        while last < 50:
            last = int(await asyncio.to_thread(writer.stdout.readline))
    finally:
        writer.kill()
        said, _ = writer.communicate()
    numbers = [last, *map(int, said.split())]
    records = await RecordStore.open(database_url)
    try:
        found = await records.collections.page(tenant="default", limit=100_000, after=None)
        assert {f"c{n}" for n in range(max(numbers) + 1)} <= {c.name for c in found}
    finally:
        await records.close()


async def test_the_error_names_an_unknown_kind_of_database() -> None:
    with pytest.raises(ConfigurationError, match=r"AURUM_DATABASE_URL.*mysql"):
        await RecordStore.open("mysql://localhost/x")


async def test_a_missing_database_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError):
        await RecordStore.open(f"postgresql://postgres@/x?host={tmp_path}")


async def test_what_was_deleted_leaves_the_files_of_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite3"
    records = await RecordStore.open(sqlite_url(file))
    name = "somebody-who-is-deleted"

    def is_on_disk() -> bool:
        return any(name.encode() in path.read_bytes() for path in tmp_path.iterdir())

    try:
        collection = a_collection()
        await records.collections.add(collection)
        face = replace(a_face(collection), subject=name)
        await records.faces.begin([face])
        await records.empty_log()
        assert name.encode() in file.read_bytes()
        await records.faces.remove([face.id])
        assert is_on_disk()
        await records.empty_log()
        assert not is_on_disk()
    finally:
        await records.close()
