"""Backups: everything is destroyed and comes back, of both databases, by folder and bucket."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from gateway.collections.base import FaceCandidate, Stores
from gateway.collections.factory import make_collections, open_stores
from gateway.collections.search import Probe, SearchOptions
from gateway.collections.service import Collections
from gateway.concurrency import BackgroundTasks
from gateway.errors import ConfigurationError
from gateway.jobs.objects.base import object_key
from gateway.jobs.objects.factory import open_objects
from gateway.records import snapshot
from gateway.records.audit_anchor import anchor_file, read_anchor_file, write_anchor
from gateway.records.audit_check import verify as verify_audit
from gateway.records.audit_keys import load_audit_keys
from gateway.records.database import engine_without_limits, sqlite_url, writing_alone
from gateway.records.factory import open_records, restoring_file
from gateway.records.migrate import upgrade
from gateway.records.types import CollectionRecord, CollectionSettings
from gateway.security.factory import key_service
from gateway.security.key_authenticator import KeyAuthenticator
from gateway.security.key_service import KeyRequest
from gateway.security.peppers import Peppers
from gateway.security.roles import Role
from gateway.settings import Settings
from gateway.vectors.qdrant import IN_MEMORY, QdrantVectorStore
from tests.support.collection_world import ACTOR
from tests.support.collections import CALLER, OLD, TUNING, FakeEmbedder, in_time
from tests.support.command_line import PYTHONPATH, run_in_process
from tests.support.object_server import BUCKET, ObjectServer, object_server
from tests.support.records import _create_database, _of_database, _run_apart
from tools.backup import create as creating
from tools.backup.create import Parts, create
from tools.backup.errors import BackupError
from tools.backup.places import FolderPlace, Place, choose, open_place
from tools.backup.restore import restore
from tools.backup.secret import BackupSecret
from tools.backup.verify import verify

SECRET = BackupSecret("key", bytes(range(32)))
FACES = 400
JOB = "00000000-0000-4000-8000-00000000000a"
DIMENSION = 32


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


def settings_of(home: Path, url: str | None = None, **more: Any) -> Settings:
    database = None if url is None else SecretStr(url)
    return Settings(
        home=home,
        model_repository=home / "models",
        database_url=database,
        seal_metadata="on",
        min_free_disk_megabytes=0,
        **more,
    )


@pytest.fixture
def new_database(postgres: str) -> Any:
    return lambda: _of_database(postgres, _run_apart(_create_database(postgres)))


def silent(*_: object) -> None:
    return


def faces(numbers: Sequence[int]) -> list[FaceCandidate]:
    return [
        FaceCandidate(
            index=0,
            vector=vector_of(number),
            space=OLD,
            subject=f"p{number // 2}",
            metadata={"n": number},
            crop=np.full((112, 112, 3), number % 256, dtype=np.uint8),
            box=(0.0, 0.0, 50.0, 50.0),
            quality={"size": 50.0},
            image_sha256=f"{number:064x}",
            detector="00000000000000de",
        )
        for number in numbers
    ]


def vector_of(number: int) -> Any:
    return np.random.default_rng(number).standard_normal(DIMENSION).astype(np.float32)


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[tuple[Stores, Collections]]:
    """The collections as a gateway has them: with their background tasks."""
    async with open_stores(settings) as stores:
        made = make_collections(settings, stores, FakeEmbedder(), BackgroundTasks())
        async with made.running():
            yield stores, made


async def fill(made: Collections, number: int = FACES) -> CollectionRecord:
    collection = await made.create(CALLER, "people", CollectionSettings(keep="crop"))
    for start in range(0, number, 100):
        await made.enrolment.enrol(
            collection, faces(range(start, min(start + 100, number))), deadline=in_time()
        )
    return await made.stores.collection(CALLER, "people")


async def found(made: Collections, number: int = 40) -> list[list[tuple[str, str, float]]]:
    """What searches answer."""
    collection = await made.stores.collection(CALLER, "people")
    probes = [Probe(vector_of(n) + 0.3 * vector_of(n + 1), OLD, None) for n in range(number)]
    answers = await made.search.find(collection, probes, SearchOptions(5, -1.0), deadline=in_time())
    return [
        [(each.face_id, each.subject, round(each.similarity, 4)) for each in matches]
        for matches in answers
    ]


async def back_up(settings: Settings, place: Place, **parts: bool) -> dict[str, Any]:
    return await create(settings, place, SECRET, Parts(**parts), silent)


async def bring_back(
    settings: Settings, place: Place, name: str | None = None, *, replace: bool = False
) -> dict[str, Any]:
    chosen = await choose(place, name)
    return await restore(settings, place, chosen, SECRET, replace=replace, report=silent)


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


async def test_writes_that_go_on_meanwhile_lose_no_acknowledged_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged before the backup is in it; what was forgotten during it is not."""
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    read_vectors = creating._Creation.vectors
    async with service(settings) as (stores, made):
        collection = await fill(made, 100)
        await made.forgetting.subject(collection, "p9", ACTOR)
        acknowledged = {
            face.id for face in await stores.records.faces.page(collection.id, limit=999)
        }
        during: list[str] = []

        def add_anchor(line: bytes) -> None:
            with anchor_file(settings).open("ab") as file:
                file.write(line)

        add_anchor(write_anchor(await stores.records.audit.head()))

        async def change_first(creation: Any) -> None:
            # between the records and the vectors, where it matters
            await made.forgetting.subject(collection, "p3", ACTOR)
            new = await made.enrolment.enrol(collection, faces(range(100, 120)), deadline=in_time())
            during.extend(each.face.id for each in new)
            add_anchor(write_anchor(await stores.records.audit.head()))
            await read_vectors(creation)

        monkeypatch.setattr(creating._Creation, "vectors", change_first)
        manifest = await back_up(settings, place)
        alive = await stores.records.faces.ids(collection.id)
    assert manifest["left_out"] == {"forgotten": 2, "lost": 0}
    assert len(during) == 20
    await verify(place, manifest["name"], SECRET)
    shutil.rmtree(tmp_path / "home")
    await bring_back(settings, place)
    async with service(settings) as (stores, made):
        back = await stores.records.faces.ids(collection.id)
        assert back == acknowledged & alive
        assert len(back) == 96
        assert await made.repair.find_drift() == ()
        assert len(await stores.records.faces.crops(sorted(acknowledged))) == 96
        verdict = await verify_audit(
            stores.records.audit.rows(),
            keys=load_audit_keys(settings).by_id,
            anchors=read_anchor_file(anchor_file(settings)),
        )
        assert (verdict.problem, verdict.anchors) == (None, 1)


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


async def test_a_backup_without_keys_says_so_and_takes_those_that_are_there(
    tmp_path: Path,
) -> None:
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    async with service(settings) as (stores, made):
        collection = await fill(made, 4)
        (face, *_) = await stores.records.faces.ids(collection.id)
    await back_up(settings, place, keys=False)
    shutil.copytree(settings.home / "keys", tmp_path / "keys")
    shutil.rmtree(settings.home)
    shutil.copytree(tmp_path / "keys", settings.home / "keys")
    await bring_back(settings, place)
    async with service(settings) as (_, made):
        assert (await made.kept_crop(collection, face)).shape == (112, 112, 3)


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


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway.settings import load_settings
from tools.backup.create import Parts, create
from tools.backup.places import FolderPlace, choose
from tools.backup.restore import restore
from tools.backup.secret import load_secret

def report(what, done, total):
    if what == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    settings, place = load_settings(), FolderPlace(Path(sys.argv[2]))
    secret = load_secret(settings)
    if sys.argv[1] == "create":
        await create(settings, place, secret, Parts(), report)
    else:
        name = await choose(place, None)
        await restore(settings, place, name, secret, replace=False, report=report)

asyncio.run(main())
"""


async def test_a_kill_leaves_nothing_half_done(tmp_path: Path) -> None:
    home, backups, key = tmp_path / "home", tmp_path / "backups", tmp_path / "key"
    key.write_text(SECRET.value.hex())
    settings = settings_of(home)
    place = FolderPlace(backups)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": PYTHONPATH,
        "AURUM_HOME": str(home),
        "AURUM_SEAL_METADATA": "on",
        "AURUM_MODEL_REPOSITORY": str(home / "models"),
        "AURUM_MIN_FREE_DISK_MEGABYTES": "0",
        "AURUM_BACKUP_KEY_FILE": str(key),
    }

    def kill(command: str, at: str) -> None:
        done = subprocess.run(
            [sys.executable, "-c", KILLED, command, str(backups), at],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    async with service(settings) as (_, made):
        await fill(made, 20)
        before = await found(made, 5)
    kill("create", "default/people")
    assert [each.suffix for each in backups.iterdir()] == [".partial"]
    assert await place.archives() == []
    manifest = await back_up(settings, place)
    assert [each.name for each in backups.iterdir()] == [manifest["name"]]

    shutil.rmtree(home)
    kill("restore", f"vectors/aurum/default/people/{OLD}")
    assert restoring_file(settings).exists()
    with pytest.raises(ConfigurationError, match=r"restoring a backup .* was interrupted"):
        await open_records(settings)
    # without --replace: nothing of before is there
    await bring_back(settings, place)
    assert not restoring_file(settings).exists()
    async with service(settings) as (_, made):
        assert await found(made, 5) == before


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


async def test_the_command(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    async with service(settings) as (_, made):
        await fill(made, 20)
    phrase = "correct horse battery"
    environment = {
        "PATH": "/usr/bin:/bin",
        "AURUM_HOME": str(tmp_path / "home"),
        "AURUM_SEAL_METADATA": "on",
        "AURUM_MODEL_REPOSITORY": str(tmp_path / "home/models"),
        "AURUM_MIN_FREE_DISK_MEGABYTES": "0",
        "AURUM_BACKUP_PASSPHRASE": phrase,
    }

    def aurum(*arguments: str, **more: str) -> Any:
        done = run_in_process(
            ["backup", *arguments], environment=environment | more, folder=tmp_path
        )
        assert phrase not in done.stdout + done.stderr
        return done

    def in_thread(*arguments: str, **more: str) -> Any:
        return asyncio.to_thread(aurum, *arguments, **more)

    refused = await in_thread("create", "backups", AURUM_BACKUP_PASSPHRASE_FILE="x")
    assert (refused.returncode, "two things encrypt" in refused.stderr) == (1, True)
    for _ in range(2):
        done = await in_thread("create", "backups", "--json", "--keep", "1")
        assert done.returncode == 0, done.stderr
    created = json.loads(done.stdout)
    assert (created["rows"]["faces"], len(created["deleted"])) == (20, 1)
    listed = json.loads((await in_thread("list", "backups", "--json")).stdout)
    assert [each["name"] for each in listed] == [created["name"]]
    # whole, to be copied
    assert created["name"] in (await in_thread("list", "backups")).stdout
    wrong = await in_thread("verify", "backups", AURUM_BACKUP_PASSPHRASE="another passphrase")
    assert "the passphrase is not that of the archive" in wrong.stderr
    whole = await in_thread("verify", "backups")
    assert (whole.returncode, "is whole" in whole.stdout) == (0, True)
    assert "there are no backups here" in (await in_thread("restore", "nothing")).stderr
    assert "the home is not empty" in (await in_thread("restore", "backups")).stderr
    done = await in_thread("restore", "backups", "--replace", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["searched"] == 20
