"""Who was erased after a backup was made is not back when it is restored."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.collections.service import Collections
from gateway.errors import NotFoundError, StorageUnavailableError
from gateway.jobs.objects.base import object_key
from gateway.jobs.objects.erasures import open_register
from gateway.jobs.objects.factory import open_objects
from gateway.records import clock
from gateway.records.audit_check import verify as verify_audit
from gateway.records.audit_keys import load_audit_keys
from gateway.records.erasure_register import Mark, register_file
from gateway.records.factory import open_records, restoring_file
from gateway.records.types import CollectionRecord, CollectionSettings, Consent
from gateway.security.factory import key_service
from gateway.security.key_service import KeyRequest
from gateway.security.roles import Role
from gateway.settings import Settings
from tests.support.backups import (
    SECRET,
    back_up,
    bring_back,
    faces,
    fill,
    service,
    settings_of,
    silent,
)
from tests.support.collection_world import ACTOR
from tests.support.collections import CALLER, in_time
from tests.support.job_records import a_job, an_item
from tests.support.object_server import BUCKET, object_server
from tools.backup import restore as restoring
from tools.backup.errors import BackupError
from tools.backup.places import FolderPlace, choose
from tools.backup.registers import read_registers
from tools.backup.restore import restore


async def enrol(made: Collections, name: str, numbers: range) -> CollectionRecord:
    collection = await made.create(CALLER, name, CollectionSettings(keep="crop"))
    await made.enrolment.enrol(collection, faces(numbers), deadline=in_time())
    return await made.stores.collection(CALLER, name)


async def queue_job(made: Collections, collection: CollectionRecord, settings: Settings) -> str:
    """A job that waits: its second image names p3, its third shows p1."""
    job = replace(
        a_job(operation="enrol"),
        collection_id=collection.id,
        collection=collection.name,
        options={"subject_from": "folder"},
    )
    jobs = made.stores.records.jobs
    await jobs.create(job)
    names = [(0, "q/1.jpg", 900), (1, "p3/2.jpg", 901), (2, "q/3.jpg", 2)]
    items = [
        replace(an_item(job.id, n), name=name, sha256=f"{image:064x}") for n, name, image in names
    ]
    await jobs.add_items(job.id, items)
    await jobs.submit(job.id)
    async with open_objects(settings) as objects:
        for n in range(3):
            await objects.put(object_key(job.id, n), b"an image")
    return job.id


async def restore_with(settings: Settings, place: FolderPlace, *erasures: Path) -> dict[str, Any]:
    name = await choose(place, None)
    return await restore(
        settings, place, name, SECRET, replace=False, report=silent, erasures=erasures
    )


async def test_all_that_was_erased_since_is_erased_again(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    async with service(settings) as (stores, made):
        made.forgetting.register = open_register(settings)
        people = await fill(made, 20)
        gone = await enrol(made, "gone", range(20, 24))
        bare = await enrol(made, "bare", range(24, 28))
        job_id = await queue_job(made, people, settings)
        keys = key_service(settings, stores.records, open_register(settings))
        asked = KeyRequest(tenant="default", name="k", roles=(Role.SEARCH,))
        revoked = await keys.create(asked, by="tester")
        valid = await keys.create(asked, by="tester")
        await back_up(settings, place, job_images=True)
        with pytest.raises(NotFoundError):
            await keys.revoke(valid.record.id, tenant="other", by="tester")
        await keys.revoke(revoked.record.id, tenant="default", by="tester")
        await made.forgetting.subject(people, "p1", ACTOR)
        found = await made.people.located(CALLER, [("people", "p3")])
        await made.people.erase(found, ACTOR, do_not_enrol=None)
        now = clock.now()
        withdrawn = Consent("form", given_at=now - 9, withdrawn_at=now)
        await made.people.change(people, "p4", {"consent": withdrawn}, ACTOR)
        (face, _) = await stores.records.faces.of_subject(people.id, "p5")
        await made.forgetting.face(people, face.id, ACTOR)
        await made.forgetting.collection(gone, ACTOR)
        await made.change(bare, replace(bare.settings, keep="none"), ACTOR)
        # enrolled later, so not in the backup
        await made.enrolment.enrol(people, faces(range(40, 42)), deadline=in_time())
        await made.forgetting.subject(people, "p20", ACTOR)
    kept = tmp_path / "register"
    register_file(settings).rename(kept)
    for name in (b"p1", people.id.encode(), face.id.encode()):
        assert name not in kept.read_bytes()
    shutil.rmtree(settings.home)

    restored = await restore_with(settings, place, kept)
    assert restored["erased_again"] == {
        "collections": 1,
        "subjects": 3,
        "faces": 3 * 2 + 1 + 4,
        "crops": 3 * 2 + 1 + 4 + 4,
        "job_images": 2,
        "keys": 1,
    }
    assert restored["notes"] == []
    async with service(settings) as (stores, made):
        names = {f.subject for f in await stores.records.faces.page(people.id, limit=99)}
        assert names == {f"p{n}" for n in (0, 2, 5, 6, 7, 8, 9)}
        assert await stores.records.faces.count(people.id) == (13, 7)
        assert await stores.records.collections.get(gone.id) is None
        ids = await stores.records.faces.ids(bare.id)
        assert (len(ids), await stores.records.faces.crops(sorted(ids))) == (4, ())
        items = await stores.records.jobs.results(job_id, limit=9)
        assert [(i.name, i.status) for i in items] == [
            ("q/1.jpg", "queued"),
            ("image-1", "error"),
            ("image-2", "error"),
        ]
        assert await made.repair.find_drift() == ()
        left = await stores.records.keys.page(tenant=None, limit=9)
        assert {key.id for key in left if key.revoked_at is None} == {valid.record.id}
        lines = await stores.records.audit.latest(tenant=people.tenant, limit=99)
        assert {line.action for line in lines if line.actor == "aurum backup"} == {
            "erase_person",
            "forget_collection",
            "forget_crops",
            "forget_face",
            "revoke_key",
        }
        by_id = load_audit_keys(settings).by_id
        verdict = await verify_audit(stores.records.audit.rows(), keys=by_id, anchors=())
        assert verdict.problem is None


async def test_who_was_enrolled_again_stays(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    async with service(settings) as (stores, made):
        made.forgetting.register = open_register(settings)
        people = await fill(made, 4)
        await made.forgetting.subject(people, "p1", ACTOR)
        await made.enrolment.enrol(people, faces(range(2, 4)), deadline=in_time())
        await back_up(settings, place)
    kept = tmp_path / "register"
    register_file(settings).rename(kept)
    shutil.rmtree(settings.home)
    restored = await restore_with(settings, place, kept)
    assert restored["erased_again"] == dict.fromkeys(
        ("collections", "subjects", "faces", "crops", "job_images", "keys"), 0
    )
    async with service(settings) as (stores, _):
        assert await stores.records.faces.count(people.id) == (4, 2)


async def test_a_missing_register_and_receipts_are_spoken_of(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    async with service(settings) as (stores, made):
        people = await fill(made, 8)
        await back_up(settings, place)
    shutil.rmtree(settings.home)
    (note,) = (await bring_back(settings, place))["notes"]
    assert "there is no register of erasures" in note
    shutil.rmtree(settings.home)
    receipt = tmp_path / "receipt.json"
    erased = [{"collection": "people", "subject": "p2", "faces": 2}]
    receipt.write_text(json.dumps({"at": "2999-01-01T00:00:00+00:00", "erased": erased}))
    other = tmp_path / "other"
    other.write_text('{"at":1,"kind":"face","key":"f00","digest":"00"}\nhalf')
    answer = await restore_with(settings, place, receipt, other)
    assert answer["erased_again"]["subjects"] == 1
    unknown, unread = answer["notes"]
    assert "1 erasures were noted under an audit key that is not here" in unknown
    assert "1 lines of registers cannot be read" in unread
    async with service(settings) as (stores, _):
        assert await stores.records.faces.count(people.id) == (6, 3)
    receipt.write_text("a letter")
    with pytest.raises(BackupError, match="neither a register of erasures nor a receipt"):
        await restore_with(settings, place, receipt)


class Away:
    """A register whose bucket is away."""

    async def note(self, marks: Sequence[Mark]) -> None:
        raise StorageUnavailableError(f"{len(marks)} erasures cannot be noted")


async def test_without_the_register_crops_stay_and_keys_end(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    async with service(settings) as (stores, made):
        people, records = await fill(made, 4), stores.records
        none = replace(people.settings, keep="none")
        made.forgetting.register = Away()
        with pytest.raises(StorageUnavailableError):
            await made.change(people, none, ACTOR)
        assert await records.collections.get(people.id) == people
        keys = key_service(settings, records, Away())
        made_key = await keys.create(
            KeyRequest(tenant="default", name="k", roles=(Role.SEARCH,)), by="tester"
        )
        with pytest.raises(StorageUnavailableError):
            await keys.revoke(made_key.record.id, tenant="default", by="tester")
        ended = await records.keys.get(made_key.record.id)
        assert ended is not None
        assert ended.revoked_at is not None

        # crops that an interrupted change has left
        made.forgetting.register = open_register(settings)
        await records.collections.change_settings(people.id, none, at=clock.now())
        changed = await records.collections.get(people.id)
        assert changed is not None
        assert await records.faces.count_crops(people.id) == 4
        await made.change(changed, none, ACTOR)
        assert await records.faces.count_crops(people.id) == 0


async def test_half_a_line_of_our_own_register_stops_nobody(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    register_file(settings).parent.mkdir()
    register_file(settings).write_text('{"at":1,"ki')
    assert (await read_registers(settings, ())).unread == 1
    with pytest.raises(BackupError, match="neither a register"):
        await read_registers(settings, (register_file(settings),))


async def test_no_gateway_starts_before_they_are_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    async with service(settings) as (_, made):
        await fill(made, 4)
    await back_up(settings, place)
    shutil.rmtree(settings.home)

    async def fails(*_: object, **__: object) -> None:
        raise StorageUnavailableError("away")

    with monkeypatch.context() as broken:
        broken.setattr(restoring, "erase_again", fails)
        with pytest.raises(StorageUnavailableError):
            await bring_back(settings, place)
    assert restoring_file(settings).exists()
    await bring_back(settings, place)
    records = await open_records(settings)
    await records.close()


async def test_a_bucket_holds_the_register(tmp_path: Path) -> None:
    with object_server() as server:
        settings = settings_of(
            tmp_path / "home",
            **(server.settings() | {"object_store_url": None}),
            erasure_register_url=f"s3://{BUCKET}/erasures",
        )
        place = FolderPlace(tmp_path / "backups")
        async with service(settings) as (_, made):
            made.forgetting.register = open_register(settings)
            people = await fill(made, 8)
            await back_up(settings, place)
            await made.forgetting.subject(people, "p2", ACTOR)
        assert not register_file(settings).exists()
        shutil.rmtree(settings.home)
        restored = await bring_back(settings, place)
        assert restored["erased_again"]["subjects"] == 1


async def test_newer_keys_stay_and_lost_ones_are_named(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    place = FolderPlace(tmp_path / "backups")
    async with service(settings) as (_, made):
        await fill(made, 4)
    await back_up(settings, place)
    await back_up(settings, FolderPlace(tmp_path / "bare"), keys=False)
    keys = settings.home / "keys"
    newer = (keys / "audit.key").read_text() + f"0123abcd {'7' * 64}\n"
    shutil.rmtree(settings.home)
    keys.mkdir(parents=True)
    (keys / "audit.key").write_text(newer)
    notes = (await bring_back(settings, place))["notes"]
    assert any("audit.key has newer keys, too, and stays as it is" in each for each in notes)
    assert (keys / "audit.key").read_text() == newer

    shutil.rmtree(settings.home)
    with pytest.raises(BackupError, match=r"this home lacks .*storage: "):
        await bring_back(settings, FolderPlace(tmp_path / "bare"))
    assert not keys.exists()
