"""Everything is destroyed and comes back, of both databases, by folder and bucket."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigurationError
from gateway.jobs.objects.base import object_key
from gateway.jobs.objects.factory import open_objects
from gateway.records import snapshot
from gateway.records.audit_check import verify as verify_audit
from gateway.records.audit_keys import load_audit_keys
from gateway.records.engines import engine_without_limits, sqlite_url, writing_alone
from gateway.records.factory import open_records
from gateway.records.migrate import upgrade
from gateway.security.factory import key_service
from gateway.security.key_authenticator import KeyAuthenticator
from gateway.security.key_service import KeyRequest
from gateway.security.peppers import Peppers
from gateway.security.roles import Role
from gateway.vectors.qdrant import IN_MEMORY, QdrantVectorStore
from tests.support.backups import (
    FACES,
    SECRET,
    back_up,
    bring_back,
    faces,
    fill,
    found,
    service,
    settings_of,
)
from tests.support.collection_world import ACTOR
from tests.support.collections import CALLER, OLD, TUNING, in_time
from tests.support.object_server import BUCKET, ObjectServer, object_server
from tests.support.records import _create_database, _of_database, _run_apart
from tools.backup.errors import BackupError
from tools.backup.places import FolderPlace, open_place
from tools.backup.secret import BackupSecret
from tools.backup.verify import verify

JOB = "00000000-0000-4000-8000-00000000000a"


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture
def new_database(postgres: str) -> Any:
    return lambda: _of_database(postgres, _run_apart(_create_database(postgres)))


@pytest.mark.parametrize(
    "kinds", ["sqlite+folder", "postgresql+bucket", "sqlite+folder>postgresql"]
)
async def test_all_that_was_destroyed_comes_back(
    kinds: str, tmp_path: Path, new_database: Any, request: pytest.FixtureRequest
) -> None:
    source, _, target = kinds.partition(">")
    more: dict[str, Any] = {}
    where = str(tmp_path / "backups")
    if source.endswith("bucket"):
        running: ObjectServer = request.getfixturevalue("server")
        more = running.settings() | {"object_store_url": None}
        where = f"s3://{BUCKET}/backups"
    url = new_database() if source.startswith("postgresql") else None
    settings = settings_of(tmp_path / "home", url, **more)
    place = open_place(settings, where)
    (tmp_path / "home/models/face_embedding/3").mkdir(parents=True)
    (tmp_path / "home/models/face_embedding/3/model.onnx").write_bytes(b"weights")
    async with service(settings) as (stores, made):
        collection = await fill(made)
        await made.forgetting.subject(collection, "p7", ACTOR)
        keys = key_service(settings, stores.records)
        request_ = KeyRequest(tenant="default", name="k", roles=(Role.SEARCH,))
        created = await keys.create(request_, by="tester")
        before = await found(made)
        crop = await made.kept_crop(collection, before[0][0][0])
        async with open_objects(settings) as objects:
            await objects.put(object_key(JOB, 3), b"an image")
        # while it is running
        manifest = await back_up(settings, place, weights=True, job_images=True)
    assert manifest["vectors"] == {f"aurum~default~people~{OLD}": FACES - 2}
    assert manifest["rows"]["faces"] == manifest["rows"]["crops"] == FACES - 2
    assert manifest["left_out"] == {"forgotten": 0, "lost": 0}
    assert manifest["missing_keys"] == {}
    assert (await verify(place, manifest["name"], SECRET))["rows"] == manifest["rows"]

    shutil.rmtree(tmp_path / "home")
    empty = new_database() if "postgresql" in (target or source) else None
    settings = settings_of(tmp_path / "home", empty, **more)
    restored = await bring_back(settings, place)
    assert restored["rows"] == manifest["rows"]
    assert restored["searched"] == 50
    assert "1 versions of models were written" in restored["notes"]
    assert (tmp_path / "home/models/face_embedding/3/model.onnx").read_bytes() == b"weights"
    async with open_objects(settings) as objects:
        assert await objects.get(object_key(JOB, 3)) == b"an image"
    async with service(settings) as (stores, made):
        assert await found(made) == before
        assert (await made.kept_crop(collection, before[0][0][0]) == crop).all()
        assert await made.repair.find_drift() == ()
        face = before[0][0][0]
        (record,) = await stores.records.faces.get(collection.id, [face])
        assert dict(record.metadata)["n"] in range(FACES)
        verdict = await verify_audit(
            stores.records.audit.rows(), keys=load_audit_keys(settings).by_id, anchors=()
        )
        assert verdict.problem is None
        (line,) = await stores.records.audit.latest(tenant="", limit=1)
        assert line.action == "restore_backup"
        peppers = Peppers.load(settings.home / "keys/api-keys.pepper")
        known = await KeyAuthenticator(stores.records.keys, peppers).authenticate(created.key.text)
        assert known.tenant == "default"


async def test_vectors_come_back_into_another_kind_of_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Qdrant Edge to a server, and from there to Edge."""
    edge = settings_of(tmp_path / "edge")
    place = FolderPlace(tmp_path / "backups")
    async with service(edge) as (_, made):
        await fill(made, 50)
        before = await found(made, 5)
    await back_up(edge, place)
    url = os.environ.get("AURUM_TEST_QDRANT_URL", IN_MEMORY)
    store = await QdrantVectorStore.open(url, TUNING, api_key=None, timeout_seconds=10)
    closing = store.close

    async def stays() -> None:
        return

    monkeypatch.setattr(store, "close", stays)

    async def open_server(*_: object) -> QdrantVectorStore:
        return store

    monkeypatch.setattr("tools.backup.create.open_server", open_server)
    monkeypatch.setattr("tools.backup.restore.open_server", open_server)
    on_server = settings_of(tmp_path / "server", qdrant_url="http://qdrant:6333")
    try:
        assert (await bring_back(on_server, place))["searched"] == 50
        await back_up(on_server, place)
    finally:
        await closing()
    again = settings_of(tmp_path / "again")
    await bring_back(again, place)
    async with service(again) as (_, made):
        assert await found(made, 5) == before


async def test_a_filled_home_is_replaced_only_on_request(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    async with service(settings) as (_, made):
        await fill(made, 20)
        await back_up(settings, place)
        with pytest.raises(BackupError, match="a gateway runs in this home"):
            await bring_back(settings, place, replace=True)
        collection = await made.stores.collection(CALLER, "people")
        await made.enrolment.enrol(collection, faces(range(20, 40)), deadline=in_time())
    with pytest.raises(BackupError, match="the home is not empty"):
        await bring_back(settings, place)
    async with service(settings) as (stores, _):
        assert await stores.records.faces.count(collection.id) == (40, 20)
    restored = await bring_back(settings, place, replace=True)
    assert restored["rows"]["faces"] == 20
    async with service(settings) as (stores, _):
        assert await stores.records.faces.count(collection.id) == (20, 10)


async def test_a_backup_of_older_tables_is_migrated_and_of_newer_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: Any
) -> None:
    old = settings_of(tmp_path / "old")
    old.home.mkdir()
    engine = engine_without_limits(sqlite_url(old.home / "records.sqlite3"))
    async with writing_alone(engine) as connection:
        await connection.run_sync(upgrade, "0006")
        await connection.exec_driver_sql(
            "INSERT INTO audit (at, tenant, actor, action, receipt, counts) "
            "VALUES (1.5, 'default', 'a', 'delete_face', 'r', '{\"faces\": 1}')"
        )
    await engine.dispose()
    place = FolderPlace(tmp_path / "backups")
    with pytest.raises(ConfigurationError, match=r"revision 0006.*use the release"):
        await back_up(old, place)
    with monkeypatch.context() as as_then:
        as_then.setattr(snapshot, "newest_revision", lambda: "0006")
        manifest = await back_up(old, place)
    assert manifest["revision"] == "0006"
    for url in (None, new_database()):
        new = settings_of(tmp_path / f"new-{url is None}", url)
        await bring_back(new, place)
        records = await open_records(new)
        try:
            keys = load_audit_keys(new).by_id
            verdict = await verify_audit(records.audit.rows(), keys=keys, anchors=())
            assert (verdict.problem, verdict.lines) == (None, 2)
        finally:
            await records.close()
    monkeypatch.setattr("tools.backup.restore.knows_revision", lambda _: False)
    with pytest.raises(BackupError, match="use a newer one"):
        await bring_back(settings_of(tmp_path / "other"), place)
    assert not (tmp_path / "other").exists()


async def test_a_damaged_archive_touches_nothing(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    async with service(settings) as (_, made):
        await fill(made, 20)
    manifest = await back_up(settings, place)
    file = tmp_path / "backups" / manifest["name"]
    whole = file.read_bytes()
    for data in (whole[:-100], whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:]):
        file.write_bytes(data)
        with pytest.raises(BackupError, match=r"cut off|damaged"):
            await bring_back(settings, place, replace=True)
    file.write_bytes(whole)
    with pytest.raises(BackupError, match="the key is not that of the archive"):
        await verify(place, manifest["name"], BackupSecret("key", bytes(32)))
    async with service(settings) as (_, made):
        assert await made.repair.find_drift() == ()
        assert len(await found(made, 5)) == 5
