"""People's rights on real homes: races with enrolments, and a change of the embedding model."""

import asyncio
import logging
from typing import Any

import pytest

from gateway.collections.base import FaceCandidate
from gateway.collections.refusals import NewRefusal
from gateway.collections.search import Probe
from gateway.errors import EnrolmentRefusedError
from gateway.records import clock
from gateway.records.types import Consent, Terms
from tests.support.collection_world import (
    ACTOR,
    World,
    current,
    enrol,
    make,
    until_switched,
    who,
)
from tests.support.collections import (
    CALLER,
    NEW,
    OLD,
    candidate,
    crop_of,
    in_time,
    person,
)


async def admit(world: World, *candidates: FaceCandidate, terms: Terms | None = None) -> list[str]:
    """Enrol as requests and jobs do; returns the subjects that were refused."""
    admitted = await world.service.admission.enrol(
        await current(world), candidates, terms or Terms(), deadline=in_time()
    )
    return [each.subject or "" for each in admitted.refused]


async def refuse(world: World, number: int, *, space: str = OLD, keep_crop: bool = False) -> str:
    face = NewRefusal(person(number, space), space, crop_of(number) if keep_crop else None)
    (entry,) = await world.service.refusals.add(
        await current(world), [face], reason="asked", actor=ACTOR
    )
    return entry.id


async def test_an_erasure_stops_an_enrolment_that_is_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(world)
    await enrol(world, 1, subject="anna")
    writing, go_on = asyncio.Event(), asyncio.Event()
    upsert = world.vectors.upsert

    async def slow(*arguments: Any) -> None:
        writing.set()
        await go_on.wait()
        await upsert(*arguments)

    monkeypatch.setattr(world.vectors, "upsert", slow)
    terms = Terms(begun_at=clock.now())
    running = asyncio.create_task(admit(world, candidate(2, "anna"), terms=terms))
    await writing.wait()
    forgetting = world.service.forgetting
    erasing = asyncio.create_task(forgetting.subject(await current(world), "anna", ACTOR))
    # the journal tells that the enrolment was stopped; then it writes its vector all the same
    async with asyncio.timeout(60):
        while await world.records.faces.in_state("pending"):
            await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(EnrolmentRefusedError):
        await running
    receipt = await erasing
    assert receipt.faces == 1
    assert await who(world, 1) == await who(world, 2) == []
    assert await world.service.repair.find_drift() == ()
    assert await world.records.faces.in_state("deleting") == ()
    # a job that was made before is refused, too; a new request is not
    with pytest.raises(EnrolmentRefusedError):
        await admit(world, candidate(3, "anna"), terms=terms)
    assert await admit(world, candidate(3, "anna"), terms=Terms(begun_at=clock.now())) == []


async def test_a_face_that_is_listed_meanwhile_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(world)
    compare = world.service.refusals.compare
    compared: list[int] = []

    async def then_listed(*arguments: Any, **more: Any) -> tuple[int, frozenset[int]]:
        outcome = await compare(*arguments, **more)
        if not compared:
            await refuse(world, 7)
        compared.append(outcome[0])
        return outcome

    monkeypatch.setattr(world.service.refusals, "compare", then_listed)
    assert await admit(world, candidate(7, "anna"), candidate(8, "bert")) == ["anna"]
    assert compared == [0, 1]
    assert await who(world, 7) == []
    assert await who(world, 8) == ["bert"]


async def test_the_list_follows_a_new_embedding_model(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    collection = await make(world, keep="crop")
    await enrol(world, 1)
    kept = await refuse(world, 7, keep_crop=True)
    await refuse(world, 8)
    world.embedder.spaces.append(NEW)
    with caplog.at_level(logging.WARNING):
        await world.service.migrations.start(await current(world), deadline=in_time())
        await until_switched(world)
    assert "no crop for the new embedding space" in caplog.text
    _, entries = await world.records.refusals.all(collection.id)
    assert {entry.id: entry.space for entry in entries}[kept] == NEW
    assert sorted(entry.space for entry in entries) == sorted([OLD, NEW])
    # the one without a crop is compared in its own space, while a model makes that
    both = (candidate(7, "anna", space=NEW), candidate(8, "bert", space=NEW))
    assert await admit(world, *both) == ["anna", "bert"]
    shown = await world.service.refusals.shown(await current(world), entries, deadline=in_time())
    assert [each.is_compared for each in shown] == [True, True]
    # the old model is gone: the list says which entry has to be added again
    world.embedder.spaces.remove(OLD)
    await world.service.migrations.close()
    shown = await world.service.refusals.shown(await current(world), entries, deadline=in_time())
    assert {each.entry.id: each.is_compared for each in shown}[kept]
    assert sorted(each.is_compared for each in shown) == [False, True]
    assert await admit(world, candidate(7, "anna", space=NEW)) == ["anna"]
    written = repr(entries)
    assert str(float(person(7, NEW)[0])) not in written


async def test_retention_removes_whose_consent_has_ended(world: World) -> None:
    collection = await make(world, requires_consent=True)
    now = clock.now()
    consent = Consent("form 1", now - 10, expires_at=now + 1000)
    for number, subject in ((1, "anna"), (2, "bert")):
        assert await admit(world, candidate(number, subject), terms=Terms(consent=consent)) == []
    people = world.service.people
    withdrawn = {"consent": Consent("form 1", now - 10, withdrawn_at=now), "display_name": "Anna"}
    assert await people.change(collection, "anna", withdrawn, ACTOR)
    assert await who(world, 1) == []
    assert await world.service.forget_expired(at=clock.now()) == 1
    assert await world.service.forget_expired(at=now + 1001) == 1
    assert await world.service.repair.find_drift() == ()
    (line,) = [
        line
        for line in await world.records.audit.latest(tenant=CALLER.tenant, limit=9)
        if line.action == "withdraw_consent"
    ]
    assert (line.collection, line.counts) == ("people", {"subjects": 1})


async def test_searching_a_collection_of_a_model_that_is_gone(world: World) -> None:
    await make(world)
    await enrol(world, 1)
    world.embedder.spaces = [NEW]
    found = await world.service.people.similar(
        CALLER,
        Probe(person(1, NEW), NEW, crop_of(1)),
        min_similarity=None,
        limit=5,
        deadline=in_time(),
    )
    assert (found.people, found.not_searched) == ((), ("people",))
