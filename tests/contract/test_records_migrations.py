"""Migrations of the records that change rows, on both databases."""

import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.records import migrate as migrate_module
from gateway.records.database import Database, _with_driver
from gateway.records.store import RecordStore
from tests.support.faces import a_collection


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
    engine = create_async_engine(_with_driver(database_url))
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
        assert await records.idempotency.begin(key="double", **claim) is None
        replayed = await records.idempotency.begin(key="first", **claim)
        assert replayed is not None
        assert replayed.body == "{}"
    finally:
        await database.close()
