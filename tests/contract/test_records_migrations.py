"""Migrations of the records that change rows, on both databases."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.errors import ConfigurationError
from gateway.records import migrate as migrate_module
from gateway.records.audit_check import verify
from gateway.records.database import Database
from gateway.records.engines import with_driver
from gateway.records.revisions import downgrade
from gateway.records.store import RecordStore
from gateway.records.types import Answered, AuditLine, Claim
from tests.support.face_records import a_collection, enrolled


def upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate_module._MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def test_duplicates_are_merged(database_url: str, tmp_path: Path) -> None:
    collection = a_collection()
    group = (0.0, 0.0, 100.0, 100.0)
    rows = [
        # (id, subject, image, box, state, time): four copies from simultaneous requests
        ("a1", "anna", "1", group, "committed", 1.0),
        ("a2", "anna", "1", (0.1, 0.0, 100.2, 99.0), "committed", 1.0),
        ("a3", "anna", "1", group, "committed", 2.0),
        ("a4", "anna", "1", group, "pending", 0.5),
        # two faces of an image, one of them duplicated
        ("b1", "anna", "2", group, "committed", 1.0),
        ("b2", "anna", "2", (200.0, 0.0, 300.0, 100.0), "committed", 1.0),
        ("b3", "anna", "2", (200.0, 0.5, 300.0, 100.0), "committed", 3.0),
        # another subject, and twice without a subject
        ("c1", "Bert", "1", group, "committed", 1.0),
        ("d1", "d1", "1", group, "committed", 1.0),
        ("d2", "d2", "1", group, "committed", 2.0),
        # embeddings
        ("e1", "cleo", None, None, "committed", 4.0),
        ("e2", "cleo", None, None, "committed", 4.0),
    ]
    engine = create_async_engine(with_driver(database_url))
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, "0002")
        made = "INSERT INTO collections (id, tenant, name, state, settings, created_at, updated_at)"
        values = "VALUES (:id, 'default', 'people', 'active', '{}', 1, 1)"
        await connection.execute(text(f"{made} {values}"), {"id": collection.id})
        columns = "id, collection_id, subject, space, state, image_sha256, box, quality, metadata"
        for face, subject, image, box, state, at in rows:
            await connection.execute(
                text(
                    f"INSERT INTO faces ({columns}, created_at) VALUES (:id, :collection, :subject,"
                    " 'a', :state, :image, :box, '{}', '{}', :at)"
                ),
                {
                    "id": face,
                    "collection": collection.id,
                    "subject": subject,
                    "state": state,
                    "image": image,
                    "box": None if box is None else str(list(box)),
                    "at": at,
                },
            )
        for key, face in (("double", "a3"), ("first", "a1")):
            await connection.execute(
                text(
                    "INSERT INTO idempotency (tenant, key, fingerprint, status, body, created_at)"
                    " VALUES ('default', :key, 'f', 201, '{}', :at)"
                ),
                {"key": key, "at": time.time()},
            )
            await connection.execute(
                text("INSERT INTO answered_faces VALUES ('default', :key, :face)"),
                {"key": key, "face": face},
            )
    await engine.dispose()
    database = await Database.open(database_url)
    try:
        records = RecordStore(database)
        doubles = await records.faces.in_state("deleting")
        assert {face.id for face in doubles} == {"a2", "a3", "b3", "d2"}
        left = await records.faces.page(collection.id, limit=99)
        assert {f.id for f in left} == {"a1", "b1", "b2", "c1", "d1", "e1", "e2"}
        async with database.read() as connection:
            query = text("SELECT id, claim FROM faces WHERE claim IS NOT NULL")
            claims = {row.id: row.claim for row in await connection.execute(query)}
        assert claims == {"a1": "1:anna", "b1": "2:anna", "c1": "1:Bert", "d1": "1:"}
        subjects = await records.subjects.page(collection.id, at=time.time(), limit=99)
        assert sorted((s.name, s.faces, s.created_at) for s in subjects) == [
            ("Bert", 1, 1.0),
            ("anna", 3, 0.5),
            ("cleo", 2, 4.0),
            ("d1", 1, 1.0),
        ]
        found = await records.subjects.page(collection.id, at=time.time(), limit=9, text="bert")
        assert [each.name for each in found] == ["Bert"]
        # a request that was answered with a duplicate is carried out again; the other is replayed
        claim = {"tenant": "default", "fingerprint": "f"}
        assert isinstance(await records.idempotency.begin(key="double", **claim), Claim)
        replayed = await records.idempotency.begin(key="first", **claim)
        assert isinstance(replayed, Answered)
        assert replayed.body == "{}"
    finally:
        await database.close()


async def changed(url: str, change, *args: Any) -> Any:
    """Call `change` with a connection in a transaction, without the code's own migrations."""
    engine = create_async_engine(with_driver(url))
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(change, *args)
    finally:
        await engine.dispose()


def shape(connection: Connection) -> dict[str, Any]:
    """Tables with their columns and indexes, and triggers."""
    found = inspect(connection)
    triggers = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if connection.dialect.name == "sqlite"
        else "SELECT DISTINCT tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    return {
        "triggers": sorted(connection.scalars(text(triggers))),
        **{
            table: (
                sorted((str(c["name"]), str(c["type"])) for c in found.get_columns(table)),
                sorted(str(index["name"]) for index in found.get_indexes(table)),
            )
            for table in found.get_table_names()
        },
    }


def rows(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    tables = {
        "collections": "id, name",
        "faces": "id, subject, state",
        "audit": "id, action, counts",
    }
    return {
        table: [tuple(row) for row in connection.execute(text(f"SELECT {names} FROM {table}"))]
        for table, names in tables.items()
    }


def a_line() -> AuditLine:
    return AuditLine(
        at=time.time(),
        tenant="default",
        actor="tests",
        action="enrol",
        collection="people",
        receipt="r",
        counts={"faces": 3},
        request_id=None,
    )


async def test_tables_go_back_to_the_release_before_and_forth_with_their_rows(
    database_url: str,
) -> None:
    await changed(database_url, upgrade, "0006")
    before = await changed(database_url, shape)
    records = await RecordStore.open(database_url)
    newest = await changed(database_url, shape)
    collection, faces = await enrolled(records, 3)
    for _ in range(2):
        await records.audit.add(a_line())
    await records.close()
    kept = await changed(database_url, rows)
    assert [len(each) for each in kept.values()] == [1, 3, 2]

    await downgrade(database_url, "0006")
    assert await changed(database_url, shape) == before
    assert await changed(database_url, rows) == kept

    records = await RecordStore.open(database_url)
    try:
        assert await changed(database_url, shape) == newest
        assert await changed(database_url, rows) == kept
        assert await records.collections.get(collection.id) is not None
        assert len(await records.faces.page(collection.id, limit=9)) == len(faces)
        await records.audit.add(a_line())
        assert (await verify(records.audit.rows(), keys={}, anchors=[])).lines == 3
    finally:
        await records.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE subjects SET consent_given_at = 1", "consents"),
        ("UPDATE subjects SET purpose = 'door'", "purposes"),
        ("INSERT INTO erasures SELECT id, 'd', 1 FROM collections", "erased people"),
        ("UPDATE faces SET metadata_key_id = 'k'", "sealed metadata"),
    ],
)
async def test_no_way_back_for_what_would_be_lost(
    database_url: str, statement: str, words: str
) -> None:
    records = await RecordStore.open(database_url)
    await enrolled(records, 1)
    await records.close()
    await changed(database_url, lambda connection: connection.execute(text(statement)))
    before = await changed(database_url, shape)
    with pytest.raises(ConfigurationError, match=words):
        await downgrade(database_url, "0006")
    assert await changed(database_url, shape) == before
    await (await RecordStore.open(database_url)).close()


@pytest.mark.parametrize("revision", ["0005", "0099", "head"])
async def test_only_known_tables_are_a_way_back(database_url: str, revision: str) -> None:
    await (await RecordStore.open(database_url)).close()
    with pytest.raises(ConfigurationError, match="choose one of 0006"):
        await downgrade(database_url, revision)


LATER = """
import sqlalchemy as sa
from alembic import op

revision = "0099"
down_revision = "{before}"
oldest_code = "{oldest}"


def upgrade():
    op.add_column("faces", sa.Column("later", sa.String(9), nullable=True))
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))
"""


async def migrate_as_the_next_release(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, oldest: str
) -> None:
    """Run a migration that this code does not have."""
    source = Path(migrate_module._MIGRATIONS)
    shutil.copytree(source, folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    newest = max(path.name[1:5] for path in source.glob("versions/r0*.py"))
    later = folder / "migrations" / "versions" / "r0099_later.py"
    later.write_text(LATER.format(before=newest, oldest=oldest))
    with monkeypatch.context() as patch:
        patch.setattr(migrate_module, "_MIGRATIONS", folder / "migrations")
        await changed(url, migrate_module.upgrade)


async def test_this_release_works_beside_the_next_one(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = await RecordStore.open(database_url)
    try:
        await migrate_as_the_next_release(database_url, tmp_path, monkeypatch, oldest="0010")
        started = await RecordStore.open(database_url)
        try:
            assert (await started.health()).endswith("tables 0099")
            for number, records in enumerate((running, started), 1):
                collection = a_collection(name=f"people-{number}")
                await records.collections.add(collection)
                await records.audit.add(a_line())
                assert await records.audit.count() == number
                assert await started.collections.get(collection.id) == collection
        finally:
            await started.close()
    finally:
        await running.close()


async def test_tables_that_this_release_cannot_use_stop_its_start(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate_as_the_next_release(database_url, tmp_path, monkeypatch, oldest="0099")
    with pytest.raises(ConfigurationError, match=r"later release \(0099\)"):
        await RecordStore.open(database_url)
