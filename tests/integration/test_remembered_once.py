"""The same image at the same moment is remembered once; a face is over at its time."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from gateway.collections.base import Enrolled, index_of
from gateway.errors import ConflictError, NotFoundError, StorageUnavailableError
from gateway.records.faces import FaceRecords
from gateway.records.types import Answered, Claim, KeptAnswer
from tests.integration.test_collections_service import finished_run
from tests.support.collection_client import call, client, enrol, found, make
from tests.support.collection_world import ACTOR, World, current, until_switched, who, world
from tests.support.collection_world import enrol as enrol_numbers
from tests.support.collection_world import make as make_world
from tests.support.collections import (
    NEW,
    OLD,
    candidate,
    collections_on,
    in_time,
)
from tests.support.fake_inference import SPACE, photo
from tests.support.gateway_server import form

__all__ = ["client", "world"]


async def enrolled(world: World, *numbers: int, subject: str = "anna") -> tuple[Enrolled, ...]:
    batch = [candidate(number, subject) for number in numbers]
    return await world.service.enrolment.enrol(await current(world), batch, deadline=in_time())


# Once ----------------------------------------------------------------------------------------


async def test_overlapping_batches_at_once(world: World) -> None:
    collection = await make_world(world, keep="crop")
    batches = [(1, 2, 3), (3, 4, 1), (2, 1), (4, 5), (5, 3), (1,), (1,), (2, 4)]
    answers = await asyncio.gather(*(enrolled(world, *batch) for batch in batches))
    new = [each.face.id for answer in answers for each in answer if not each.duplicate]
    assert len(new) == len(set(new)) == 5
    for batch, answer in zip(batches, answers, strict=True):
        assert [each.face.image_sha256 for each in answer] == [f"{n:064x}" for n in batch]
        assert {each.face.id for each in answer} <= set(new)
        assert {each.face.state for each in answer} == {"committed"}
    assert await world.records.faces.count(collection.id) == (5, 1)
    assert await world.records.faces.count_crops(collection.id) == 5
    assert await world.vectors.count(index_of(collection, OLD)) == 5
    assert await world.service.repair.find_drift() == ()


async def test_for_two_subjects_at_once_both_are_kept(world: World) -> None:
    collection = await make_world(world)
    names = ["anna", "bert", "anna", "bert"]
    await asyncio.gather(*(enrolled(world, 1, subject=name) for name in names))
    assert await world.records.faces.count(collection.id) == (2, 2)


async def test_several_faces_of_an_image_at_once(world: World) -> None:
    collection = await make_world(world)
    of_one_image = [
        replace(candidate(number), subject=None, image_sha256="a" * 64) for number in (1, 2, 3)
    ]
    answers = await asyncio.gather(
        *(
            world.service.enrolment.enrol(collection, of_one_image, deadline=in_time())
            for _ in range(4)
        )
    )
    assert len({each.face.id for answer in answers for each in answer}) == 3
    assert [len(answer) for answer in answers] == [3] * 4
    assert await world.records.faces.count(collection.id) == (3, 3)


class Stumbling:
    """A home of vectors whose first upsert takes a while and fails."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.left = 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    async def upsert(self, *arguments: Any) -> None:
        if self.left:
            self.left -= 1
            await asyncio.sleep(0.2)
            raise StorageUnavailableError("away")
        await self._real.upsert(*arguments)


async def test_who_waited_takes_over_from_one_that_failed(world: World, tmp_path: Path) -> None:
    collection = await make_world(world)
    service, _ = collections_on(Stumbling(world.vectors), world.records, tmp_path, world.embedder)

    async def enrol() -> tuple[Enrolled, ...]:
        batch = [candidate(1, "anna")]
        return await service.enrolment.enrol(collection, batch, deadline=in_time())

    answers = await asyncio.gather(*(enrol() for _ in range(4)), return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(error) for error in failed] == [StorageUnavailableError]
    faces = [each for answer in answers if isinstance(answer, tuple) for each in answer]
    assert sorted(each.duplicate for each in faces) == [False, True, True]
    assert await who(world, 1) == ["anna"]
    assert await world.records.faces.count(collection.id) == (1, 1)


async def test_what_a_crash_left_is_waited_for_then_settled(world: World, tmp_path: Path) -> None:
    collection = await make_world(world)
    (cut_off,) = await enrol_numbers(world, 1, subject="anna")
    # as a gateway leaves it that is killed between record and vector
    await world.vectors.delete(index_of(collection, OLD), [cut_off])
    await world.records.faces._rows.change([cut_off], {"state": "pending", "owner": None})
    assert (await world.records.faces.count(collection.id)) == (0, 0)
    soon = type(in_time()).after(0.3)
    with pytest.raises(ConflictError) as refused:
        await world.service.enrolment.enrol(
            await current(world), [candidate(1, "anna")], deadline=soon
        )
    assert refused.value.retry_after_seconds == 1
    service, _ = collections_on(world.vectors, world.records, tmp_path, world.embedder)
    async with service.running():
        (again,) = await enrolled(world, 1)
    assert not again.duplicate
    assert await who(world, 1) == ["anna"]


@pytest.mark.parametrize("how", [{"owner": "gone"}, {"created_at": 1.0}])
async def test_what_a_dead_gateway_left_is_removed_by_the_next_request(
    world: World, how: dict[str, Any]
) -> None:
    await make_world(world)
    (cut_off,) = await enrol_numbers(world, 1, subject="anna")
    await world.records.faces._rows.change([cut_off], {"state": "pending", **how})
    (again,) = await enrolled(world, 1)
    assert not again.duplicate
    assert again.face.id != cut_off
    assert await who(world, 1) == ["anna"]
    # the gateway was only asleep, and must not acknowledge what is gone
    assert not await world.records.faces.commit([cut_off])


async def test_what_a_dead_gateway_left_is_removed_without_being_asked_for(world: World) -> None:
    collection = await make_world(world)
    living, gone = await enrol_numbers(world, 1, 2)
    await world.records.faces._rows.change([living, gone], {"state": "pending"})
    await world.records.faces._rows.change([gone], {"owner": "gone"})
    async with world.records.presence.lasting():
        await world.service.repair.settle_gone(older_than=time.time() - 60)
        assert len(await world.records.faces.in_state("pending")) == 2
        await world.service.repair.settle_gone(older_than=time.time() + 1)
    (left,) = await world.records.faces.in_state("pending")
    assert left.id == living
    points = await world.vectors.scroll(index_of(collection, OLD), limit=9)
    assert [point.face_id for point in points.points] == [living]


@pytest.mark.parametrize("has_key", [True, False])
async def test_faces_that_were_committed_unnoticed_stay_with_the_kept_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, *, has_key: bool
) -> None:
    collection = await make_world(world)
    commit, records = FaceRecords.commit, world.records
    asked = {"tenant": "default", "key": f"unnoticed-{has_key}", "fingerprint": "f"}

    async def lost(self: FaceRecords, *given: Any, **more: Any) -> None:
        await commit(self, *given, **more)
        raise StorageUnavailableError("the connection broke off after the commit")

    async with records.presence.lasting():
        claim = await records.idempotency.begin(**asked)
        assert isinstance(claim, Claim)

        def kept(new: tuple[Enrolled, ...]) -> KeptAnswer:
            return KeptAnswer(claim, 201, "{}", tuple(each.face.id for each in new))

        keep = kept if has_key else None
        monkeypatch.setattr(FaceRecords, "commit", lost)
        with pytest.raises(StorageUnavailableError):
            await world.service.enrolment.enrol(
                collection, [candidate(1, "anna")], deadline=in_time(), kept=keep
            )
        await records.idempotency.give_back(claim)
        again = await records.idempotency.begin(**asked)
    # who repeats it at another gateway may have that answer by now
    assert isinstance(again, Answered) == has_key
    assert await who(world, 1) == (["anna"] if has_key else [])
    assert (await records.faces.count(collection.id))[0] == int(has_key)


async def test_what_could_not_be_undone_is_undone_later(world: World, tmp_path: Path) -> None:
    collection = await make_world(world)

    class Away(Stumbling):
        async def delete(self, *arguments: Any) -> int:
            raise StorageUnavailableError("away")

    away = Away(world.vectors)
    service, _ = collections_on(away, world.records, tmp_path, world.embedder)
    with pytest.raises(StorageUnavailableError):
        await service.enrolment.enrol(collection, [candidate(1, "anna")], deadline=in_time())
    assert len(await world.records.faces.in_state("pending")) == 1
    await service.enrolment.settle()
    assert len(await world.records.faces.in_state("pending")) == 1, "the store is still away"
    del Away.delete
    await service.enrolment.settle()
    assert await world.records.faces.in_state("pending") == ()


async def test_eight_requests_at_once(client: aiohttp.ClientSession) -> None:
    at = await make(client)

    async def send(seeds: tuple[int, ...], **fields: str) -> dict[str, Any]:
        data = aiohttp.FormData(default_to_multipart=True)
        for seed in seeds:
            data.add_field("images", photo(seed=seed), filename="a.png")
        for name, value in fields.items():
            data.add_field(name, value)
        async with client.post(f"{at}/faces", data=data) as response:
            assert response.status in (200, 201), await response.text()
            return {"status": response.status, **await response.json()}

    answers = await asyncio.gather(*(send((1,), subject="anna") for _ in range(8)))
    assert sorted(answer["status"] for answer in answers) == [200] * 7 + [201]
    assert len({answer["faces"][0]["face_id"] for answer in answers}) == 1
    batches = [(1, 2), (2, 3, 2), (3, 1), (2, 1)]
    answers = await asyncio.gather(*(send(batch, subject="anna") for batch in batches))
    for batch, answer in zip(batches, answers, strict=True):
        assert [face["index"] for face in answer["faces"]] == list(range(len(batch)))
    assert (await call(client, "GET", at, status=200))["faces"] == 3
    await asyncio.gather(*(send((4,)) for _ in range(4)))
    assert (await call(client, "GET", at, status=200))["faces"] == 4
    raw = {"space": SPACE, "embedding": np.eye(8)[6].tolist(), "subject": "anna"}
    for _ in range(2):
        await call(client, "POST", f"{at}/faces", status=201, json=raw)
    assert (await call(client, "GET", at, status=200))["faces"] == 6
    three = form(image=photo(faces=3, seed=5), faces="all", subject="crowd")
    answer = await call(client, "POST", f"{at}/faces", status=201, data=three)
    assert [face["duplicate"] for face in answer["faces"]] == [False] * 3
    three = form(image=photo(faces=3, seed=5), subject="crowd")
    answer = await call(client, "POST", f"{at}/faces", status=200, data=three)
    assert [face["duplicate"] for face in answer["faces"]] == [True] * 3


# Time ----------------------------------------------------------------------------------------


async def over(world: World, *face_ids: str) -> None:
    """Let the time of these faces be over a moment ago."""
    await world.records.faces._rows.change(face_ids, {"expires_at": time.time() - 0.01})


async def test_a_face_whose_time_is_over_is_not_found(world: World) -> None:
    collection = await make_world(world, retention_days=1, keep="crop")
    first, *_ = await enrol_numbers(world, 1, 2, 3)
    near = replace(candidate(1, "p1"), image_sha256="b" * 64)
    (second,) = await world.service.enrolment.enrol(collection, [near], deadline=in_time())
    await over(world, first)
    # another face of the subject is found in its place
    assert await who(world, 1) == ["p1"]
    await over(world, second.face.id)
    assert await who(world, 1) == []
    assert await who(world, 2) == ["p2"]
    assert await world.records.faces.count(collection.id) == (2, 2)
    with pytest.raises(NotFoundError):
        await world.service.forgetting.face(collection, first, ACTOR)
    with pytest.raises(NotFoundError):
        await world.service.kept_crop(collection, first)
    # vectors that are to be swept are no drift
    (again,) = await enrolled(world, 1, subject="p1")
    assert not again.duplicate
    assert await world.service.repair.find_drift() == ()
    assert await who(world, 1) == ["p1"]
    assert await world.service.forget_expired(at=time.time()) == 2
    assert await who(world, 1) == ["p1"]
    (duplicate,) = await enrolled(world, 1, subject="p1")
    assert (duplicate.duplicate, duplicate.face.id) == (True, again.face.id)


async def test_receipts_do_not_depend_on_the_sweep(world: World) -> None:
    collection = await make_world(world)
    faces = await enrol_numbers(world, 1, 2, 3, subject="anna")
    (bert,) = await enrol_numbers(world, 4, subject="bert")
    await over(world, faces[0], bert)
    with pytest.raises(NotFoundError):
        await world.service.forgetting.subject(collection, "bert", ACTOR)
    receipt = await world.service.forgetting.subject(await current(world), "anna", ACTOR)
    assert (receipt.faces, receipt.vectors) == (2, 2)
    # nothing of them is left, over or not
    assert await world.vectors.count(index_of(collection, OLD)) == 0
    faces = await enrol_numbers(world, 5, 6, subject="cleo")
    await over(world, faces[0])
    receipt = await world.service.forgetting.collection(await current(world), ACTOR)
    assert (receipt.faces, receipt.vectors) == (1, 1)


async def test_groups_and_moves_leave_out_whose_time_is_over(world: World) -> None:
    collection = await make_world(world, keep="crop")
    faces = await enrol_numbers(world, *range(6))
    await over(world, faces[0])
    await finished_run(world)
    groups = await world.records.clusters.page(collection.id, limit=9, after=None)
    assert {face for group in groups for face in group.faces} == set(faces[1:])
    await over(world, groups[0].faces[0])
    page = await world.records.clusters.page(collection.id, limit=3, after=None)
    # a page is full although the first group is gone
    assert [group.cluster_id for group in page] == [g.cluster_id for g in groups[1:4]]
    world.embedder.spaces = [OLD, NEW]
    migration = await world.service.migrations.start(await current(world), deadline=in_time())
    assert migration.total == 4
    await until_switched(world)
    moved = await current(world)
    assert moved.migration is not None
    assert (moved.migration.done, moved.migration.total) == (4, 4)
    assert await world.vectors.count(index_of(moved, NEW)) == 4
    await world.service.migrations.finish(moved)
    assert await world.service.forget_expired(at=time.time()) == 2
    assert await world.service.repair.find_drift() == ()
    gone = {faces[0], groups[0].faces[0]}
    for number, face in enumerate(faces):
        assert await who(world, number, space=NEW) == ([] if face in gone else [f"p{number}"])


async def test_over_is_over_by_http(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = await make(client, retention_days=0.5, keep="crop")
    headers = {"Idempotency-Key": "k"}
    data = {"subject": "anna", "space": SPACE, "embedding": np.eye(8)[1].tolist()}
    (face,) = (await call(client, "POST", f"{at}/faces", status=201, json=data, headers=headers))[
        "faces"
    ]
    await enrol(client, at, 2, "bert")
    await call(client, "PATCH", f"{at}/subjects/anna", status=200, json={"external_id": "7"})
    assert (await call(client, "GET", at, status=200))["subjects"] == 2
    assert await found(client, at, 1) == ["anna"]
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 43_201)
    assert await found(client, at, 1) == []
    shown = await call(client, "GET", at, status=200)
    assert (shown["faces"], shown["subjects"]) == (0, 0)
    listed = await call(client, "GET", "/api/collections", status=200)
    assert [(c["faces"], c["subjects"]) for c in listed["collections"]] == [(0, 0)]
    assert (await call(client, "GET", f"{at}/faces", status=200))["faces"] == []
    assert (await call(client, "GET", f"{at}/subjects", status=200))["subjects"] == []
    for method, path in (
        ("GET", "subjects/anna"),
        ("PATCH", "subjects/anna"),
        ("DELETE", "subjects/anna"),
        ("DELETE", f"faces/{face['face_id']}"),
        ("GET", f"faces/{face['face_id']}/crop"),
    ):
        await call(client, method, f"{at}/{path}", status=404)
    problem = await call(client, "POST", f"{at}/faces", status=404, json=data, headers=headers)
    assert "deleted" in problem["detail"]
    await call(client, "PATCH", at, status=200, json={"retention_days": None})
    await enrol(client, at, 2, "bert")
    assert await found(client, at, 2) == ["bert"]
