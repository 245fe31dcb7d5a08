"""Backups that are taken while faces change, without keys, and by a process that is killed."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigurationError
from gateway.records.audit_anchor import anchor_file, read_anchor_file, write_anchor
from gateway.records.audit_check import verify as verify_audit
from gateway.records.audit_keys import load_audit_keys
from gateway.records.factory import open_records, restoring_file
from tests.support.backups import (
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
from tests.support.collections import OLD, in_time
from tests.support.command_line import PYTHONPATH
from tools.backup import create as creating
from tools.backup.places import FolderPlace
from tools.backup.verify import verify


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


async def test_a_backup_without_keys_says_so_and_takes_those_that_are_there(tmp_path: Path) -> None:
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
