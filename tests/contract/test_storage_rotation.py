"""Rotation of the storage keys: SQLite with a folder, PostgreSQL with a bucket of a real server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from typer.testing import CliRunner

from gateway.errors import ConfigurationError
from gateway.jobs.objects.base import object_key
from gateway.jobs.objects.factory import open_objects
from gateway.jobs.objects.sealed import SealedObjects
from gateway.jobs.results import open_result, seal_result
from gateway.jobs.rotation import OBJECTS, Rotation
from gateway.records.encryption import load_cipher, storage_key_file
from gateway.records.engines import sqlite_url
from gateway.records.factory import open_records
from gateway.records.job_types import ItemOutcome
from gateway.records.key_ring import KeyRing
from gateway.records.refusals import RefusedFace
from gateway.records.sealed_rows import KINDS
from gateway.records.store import RecordStore
from gateway.records.tables import METADATA
from gateway.records.types import CollectionRecord, SealedCrop
from gateway.settings import Settings
from tests.support.command_line import PYTHONPATH
from tests.support.face_records import a_collection, a_face
from tests.support.job_records import a_job, an_item
from tests.support.object_server import ObjectServer, object_server
from tools.commands import storage_keys
from tools.commands.keys import app
from tools.commands.storage_keys import _rotate

FACES, IMAGES = 7, 6
"""Of the filled home."""
SUBJECT_METADATA = {"role": "guest"}


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture(params=["sqlite+folder", "postgresql+bucket"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    chosen = Settings(home=tmp_path / "home", seal_metadata="on")
    if request.param == "sqlite+folder":
        return chosen
    running: ObjectServer = request.getfixturevalue("server")
    stored = running.settings(f"{tmp_path.parent.name}/{tmp_path.name}")
    request.getfixturevalue("postgres")
    url = request.getfixturevalue("empty_postgres_url")
    return Settings(home=chosen.home, seal_metadata="on", database_url=SecretStr(url), **stored)


@pytest.fixture
def empty_postgres_url(postgres: str, migrated_postgres: str) -> str:
    from tests.support.records import _create_database, _of_database, _run_apart

    name = _run_apart(_create_database(postgres, template=migrated_postgres))
    return _of_database(postgres, name)


class Filled:
    """A home with some of everything that is sealed."""

    def __init__(self, settings: Settings, records: RecordStore, objects: SealedObjects) -> None:
        self.settings = settings
        self.records = records
        self.objects = objects
        self.cipher = load_cipher(settings)
        """Of a process that runs all the time."""
        self.collection: CollectionRecord = a_collection()
        self.job = a_job()

    async def fill(self) -> None:
        await self.records.collections.add(self.collection)
        faces = [a_face(self.collection, number) for number in range(FACES)]
        crops = [
            SealedCrop.of(face.id, self.cipher.seal(face.id, face.id.encode())) for face in faces
        ]
        await self.records.faces.begin(faces, crops)
        await self.records.faces.commit([face.id for face in faces])
        await self.records.subjects.change(
            self.collection.id, "anna", {"metadata": SUBJECT_METADATA}, at=200.0
        )
        refused = RefusedFace(
            id="refused",
            space="a" * 16,
            reason="asked",
            created_at=200.0,
            created_by="tester",
            vector=self.cipher.seal("refusal/refused", b"vector"),
            crop=self.cipher.seal("refusal-crop/refused", b"crop"),
        )
        await self.records.refusals.add(self.collection.id, [refused])
        await self.records.jobs.create(self.job)
        items = [an_item(self.job.id, index) for index in range(IMAGES)]
        for item in items:
            await self.objects.put(object_key(self.job.id, item.index), b"image %d" % item.index)
        await self.records.jobs.add_items(self.job.id, items)
        await self.records.jobs.submit(self.job.id)
        for leased in await self.records.job_queue.claim(
            "worker", operations=(self.job.operation,), limit=2, lease_seconds=60.0
        ):
            answer = json.dumps({"index": leased.index}).encode()
            sealed = seal_result(self.cipher, self.job.id, leased.index, answer)
            assert await self.records.job_queue.finish(leased, ItemOutcome("ok", sealed))
            await self.objects.delete([object_key(self.job.id, leased.index)])

    async def check(self) -> None:
        """Everything is there and can be opened."""
        faces = await self.records.faces.page(self.collection.id, limit=100)
        assert len(faces) == FACES
        for face in faces:
            assert face.metadata == a_face(self.collection).metadata
            (crop,) = await self.records.faces.crops([face.id])
            assert self.cipher.open(face.id, crop.bytes_only) == face.id.encode()
        found = await self.records.subjects.get(self.collection.id, "anna", at=300.0)
        assert found is not None
        assert found.metadata == SUBJECT_METADATA
        _, (refused,) = await self.records.refusals.all(self.collection.id)
        assert refused.crop is not None
        assert self.cipher.open("refusal/refused", refused.vector) == b"vector"
        assert self.cipher.open("refusal-crop/refused", refused.crop) == b"crop"
        for index in range(2, IMAGES):
            key = object_key(self.job.id, index)
            assert await self.objects.get(key) == b"image %d" % index
        results = await self.records.jobs.results(
            self.job.id, limit=100, after_index=-1, status="ok"
        )
        assert len(results) == 2
        for item in results:
            assert item.result is not None
            opened = open_result(self.cipher, self.job.id, item.index, item.result)
            assert json.loads(opened) == {"index": item.index}

    async def key_ids(self) -> dict[str, dict[str, int]]:
        counts = await Rotation(self.records, self.objects, self.cipher).count()
        return {kind: dict(by_key) for kind, by_key in counts.items()}

    def everything(self, key_id: str) -> dict[str, dict[str, int]]:
        """What is counted where all has one key."""
        return {
            "crops": {key_id: FACES},
            "job results": {key_id: 2},
            "metadata of faces": {key_id: FACES},
            "metadata of subjects": {key_id: 1},
            "refused faces": {key_id: 1},
            "crops of refused faces": {key_id: 1},
            OBJECTS: {key_id: IMAGES - 2},
        }


@pytest.fixture
async def filled(settings: Settings) -> AsyncIterator[Filled]:
    async with AsyncExitStack() as stack:
        records = await open_records(settings)
        stack.push_async_callback(records.close)
        objects = await stack.enter_async_context(open_objects(settings))
        made = Filled(settings, records, objects)
        await made.fill()
        await made.check()
        yield made


def age(file: Path) -> None:
    """Let the last change of the keys be long ago."""
    os.utime(file, (1.0, 1.0))


def test_every_sealed_column_is_rotated() -> None:
    """A table that gets such columns must be added to the kinds."""
    sealed = {
        (table.name, column.name)
        for table in METADATA.tables.values()
        for column in table.c
        if column.name.endswith("key_id") and table.name != "audit"
    }
    assert sealed == {(kind.table.name, kind.key_id.name) for kind in KINDS}


async def test_everything_is_sealed_anew_and_stays_readable(filled: Filled, capsys) -> None:
    old = filled.cipher.current_key_id
    assert await filled.key_ids() == filled.everything(old)
    assert await _rotate(filled.settings, retire=False)
    new = filled.cipher.current_key_id
    assert new != old
    assert await filled.key_ids() == filled.everything(new)
    await filled.check()
    assert set(filled.cipher.ring.by_id) == {old, new}
    # the old key is still there, and only removed when nobody can be writing with it any more
    file = storage_key_file(filled.settings)
    with pytest.raises(BaseException) as refused:  # noqa: PT011 - typer's exit
        await _rotate(filled.settings, retire=True)
    assert getattr(refused.value, "exit_code", None) == 1
    age(file)
    assert await _rotate(filled.settings, retire=True)
    assert list(filled.cipher.ring.by_id) == [new]
    await filled.check()
    said = capsys.readouterr()
    assert "changed less than a minute ago" in said.err
    actions = [row["action"] async for row in filled.records.audit.rows()]
    assert actions == ["new_storage_key", "retire_storage_key"]


async def test_a_key_that_is_in_use_is_not_retired(filled: Filled, capsys, monkeypatch) -> None:
    old = filled.cipher.current_key_id
    file = storage_key_file(filled.settings)
    filled.cipher.ring.with_new_key().save(file)
    age(file)

    async def nothing(self: Rotation, _observer: object = None) -> object:
        return storage_keys.Rotated()

    monkeypatch.setattr(Rotation, "run", nothing)
    assert await _rotate(filled.settings, retire=True)
    assert old in KeyRing.load(file).by_id
    assert (
        f"key {old} stays: {2 * FACES + 1 + 2 + 2 + IMAGES - 2} things" in capsys.readouterr().err
    )


async def test_a_missing_key_loses_nothing(filled: Filled, capsys) -> None:
    file = storage_key_file(filled.settings)
    kept = KeyRing.load(file)
    only_new = KeyRing.of(bytes(range(32)), index_key=kept.index_key)
    only_new.save(file)
    assert not await _rotate(filled.settings, retire=False)
    age(file)
    assert not await _rotate(filled.settings, retire=True)
    said = capsys.readouterr().err
    assert kept.current_id in said
    assert "put the missing key back" in said
    assert (await filled.key_ids())["crops"] == {kept.current_id: FACES}
    # with the key back, all of it comes to the current one
    KeyRing.of(kept.by_id[kept.current_id], bytes(range(32)), index_key=kept.index_key).save(file)
    assert await _rotate(filled.settings, retire=False)
    assert await filled.key_ids() == filled.everything(only_new.current_id)
    await filled.check()


_KILLED = """
import asyncio, os, signal, sys
from gateway.records.sealed_rows import SealedRows
from gateway.settings import load_settings
from tools.commands.storage_keys import _rotate
import gateway.records.sealed_rows as rows
rows._ROWS_AT_ONCE = 2
reseal, pages = SealedRows.reseal, int(sys.argv[1])
async def until_killed(self, kind, cipher, *, after):
    global pages
    pages -= 1
    if pages < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return await reseal(self, kind, cipher, after=after)
SealedRows.reseal = until_killed
asyncio.run(_rotate(load_settings(), retire=False))
"""


@pytest.mark.parametrize("pages", [3])
async def test_a_killed_rotation_is_finished_by_the_next(filled: Filled, pages: int) -> None:
    given = filled.settings.model_dump(exclude_defaults=True)
    environment = {
        f"AURUM_{name.upper()}": (
            value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        )
        for name, value in given.items()
    }
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _KILLED, str(pages)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, **environment},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(filled.cipher.ring.by_id) == 2
    new = filled.cipher.current_key_id
    assert await filled.key_ids() != filled.everything(new)
    await filled.check()
    assert await _rotate(filled.settings, retire=False)
    # no third key
    assert len(filled.cipher.ring.by_id) == 2
    assert await filled.key_ids() == filled.everything(new)
    await filled.check()


async def test_an_image_that_ends_meanwhile_does_not_come_back(filled: Filled) -> None:
    """A worker ends an image and deletes it while the rotation has it in its hands."""
    filled.cipher.ring.with_new_key().save(storage_key_file(filled.settings))
    (leased,) = await filled.records.job_queue.claim(
        "worker", operations=(filled.job.operation,), limit=1, lease_seconds=60.0
    )
    key = object_key(filled.job.id, leased.index)
    get = filled.objects.get

    async def slowly(asked: str) -> bytes:
        data = await get(asked)
        if asked == key:
            sealed = seal_result(filled.cipher, filled.job.id, leased.index, b"{}")
            assert await filled.records.job_queue.finish(leased, ItemOutcome("ok", sealed))
            await filled.objects.delete([key])
        return data

    rotation = Rotation(filled.records, filled.objects, filled.cipher)
    filled.objects.get = slowly  # type: ignore[method-assign]
    await rotation.run()
    assert key not in await filled.objects.keys(filled.job.id)
    assert len(await filled.objects.keys(filled.job.id)) == IMAGES - 3


async def test_sealed_metadata_is_nowhere_in_the_rows(filled: Filled) -> None:
    async with filled.records._database.read() as connection:
        for table in ("faces", "subjects"):
            rows = (await connection.execute(text(f"SELECT * FROM {table}"))).all()
            assert rows
            assert not any("red" in str(row) or "guest" in str(row) for row in rows)
    # moved to another face, it does not open
    first, second = (await filled.records.faces.page(filled.collection.id, limit=2))[:2]
    async with filled.records._database.write() as connection:
        await connection.execute(
            text(
                "UPDATE faces SET metadata = (SELECT metadata FROM faces WHERE id = :a)"
                " WHERE id = :b"
            ),
            {"a": first.id, "b": second.id},
        )
    (moved,) = await filled.records.faces.get(filled.collection.id, [second.id])
    with pytest.raises(Exception, match="were changed"):
        dict(moved.metadata)
    # a face whose metadata nobody can open can still be deleted
    assert await filled.records.faces.remove([second.id]) == 1


def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AURUM_HOME", str(tmp_path))
    monkeypatch.setenv("AURUM_STORAGE_KEYS", "not a key")
    result = CliRunner().invoke(app, ["rotate-storage"])
    assert result.exit_code == 1
    assert "AURUM_STORAGE_KEYS: entry 1" in result.output
    assert "not a key" not in result.output


async def test_keys_of_the_environment_are_rotated_by_hand(tmp_path: Path, capsys) -> None:
    old, new = "a" * 64, "b" * 64
    settings = Settings(home=tmp_path / "home", storage_keys=SecretStr(old))
    records = await open_records(settings)
    try:
        async with open_objects(settings) as objects:
            made = Filled(settings, records, objects)
            await made.fill()
    finally:
        await records.close()
    assert sqlite_url(settings.home / "records.sqlite3")
    both = settings.model_copy(update={"storage_keys": SecretStr(f"{old},{new}")})
    assert await _rotate(both, retire=False)
    assert await _rotate(both, retire=True)
    said = capsys.readouterr().err
    assert "add a new one there" in said
    assert "remove them from AURUM_STORAGE_KEYS" in said
    left = settings.model_copy(update={"storage_keys": SecretStr(new)})
    cipher = load_cipher(left)
    records = await open_records(left)
    try:
        face = a_face(made.collection)
        (crop,) = await records.faces.crops([face.id])
        assert cipher.open(face.id, crop.bytes_only) == face.id.encode()
        with pytest.raises(ConfigurationError):
            cipher.open("other", replace(crop.bytes_only))
    finally:
        await records.close()
