"""Collections that move to another space: nobody is lost, nobody forgotten comes back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.collections.base import index_of
from gateway.errors import ConflictError
from tests.support.collection_world import ACTOR, World, current, enrol, make, until_switched, who
from tests.support.collections import (
    NEW,
    OLD,
    candidate,
    collections_on,
    in_time,
)


async def test_a_move_to_a_new_space_loses_nobody(world: World) -> None:
    collection = await make(world, keep="crop")
    await enrol(world, *range(70))
    world.embedder.spaces = [OLD, NEW]
    world.embedder.pause_seconds = 0.1
    migration = await world.service.migrations.start(await current(world), deadline=in_time())
    assert (migration.source, migration.target, migration.total) == (OLD, NEW, 70)
    # meanwhile: searches answer in the old space, new faces go to both, forgotten ones from both
    assert await who(world, 5, space=NEW) == ["p5"]
    assert (await current(world)).space == OLD
    await world.service.enrolment.enrol(
        await current(world), [candidate(100, space=NEW)], deadline=in_time()
    )
    await world.service.forgetting.subject(await current(world), "p6", ACTOR)
    await until_switched(world)
    moved = await current(world)
    assert (moved.space, moved.dimension) == (NEW, 48)
    assert await world.vectors.count(index_of(collection, NEW)) == 70
    for number in (0, 5, 69, 100):
        assert await who(world, number, space=NEW) == [f"p{number}"]
    assert await who(world, 6, space=NEW) == []
    # a face enrolled after the switch can go back, too
    await world.service.enrolment.enrol(moved, [candidate(101, space=NEW)], deadline=in_time())
    await world.service.migrations.rollback(await current(world))
    back = await current(world)
    assert (back.space, back.dimension, back.migration) == (OLD, 32, None)
    assert index_of(collection, NEW) not in await world.vectors.collections()
    for number in (0, 69, 100, 101):
        assert await who(world, number, space=NEW) == [f"p{number}"]
    assert await world.service.repair.find_drift() == ()


@pytest.mark.parametrize("while_it", ["reads crops", "embeds"])
async def test_who_is_forgotten_while_they_are_moved_is_not_brought_back(
    world: World, monkeypatch: pytest.MonkeyPatch, while_it: str
) -> None:
    collection = await make(world, keep="crop")
    await enrol(world, 1, 2, 3)
    world.embedder.spaces = [OLD, NEW]
    part, name = {
        "reads crops": (world.records.faces, "crops"),
        "embeds": (world.embedder, "embed"),
    }[while_it]
    original = getattr(part, name)

    async def forget_first(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        receipt = await world.service.forgetting.subject(await current(world), "p2", ACTOR)
        assert receipt.faces == 1
        return await original(*arguments, **options)

    monkeypatch.setattr(part, name, forget_first)
    await world.service.migrations.start(await current(world), deadline=in_time())
    await until_switched(world)
    assert await world.vectors.count(index_of(collection, NEW)) == 2
    assert await who(world, 2, space=NEW) == []
    assert await who(world, 3, space=NEW) == ["p3"]
    assert await world.service.repair.find_drift() == ()


async def test_a_finished_move_drops_the_old_space(world: World) -> None:
    collection = await make(world, keep="crop")
    await enrol(world, 1, 2)
    world.embedder.spaces = [OLD, NEW]
    await world.service.migrations.start(await current(world), deadline=in_time())
    await until_switched(world)
    await world.service.migrations.finish(await current(world))
    world.embedder.spaces = [NEW]
    assert index_of(collection, OLD) not in await world.vectors.collections()
    assert await who(world, 2, space=NEW) == ["p2"]
    assert (await current(world)).migration is None
    assert await world.records.collections.spaces() == [NEW]
    receipt = await world.service.forgetting.subject(await current(world), "p1", ACTOR)
    assert receipt.vectors == 1
    assert await world.service.repair.find_drift() == ()


async def test_a_move_goes_on_after_a_restart(world: World, tmp_path: Path) -> None:
    await make(world, keep="crop")
    await enrol(world, *range(100))
    world.embedder.spaces = [OLD, NEW]
    world.embedder.pause_seconds = 0.15
    await world.service.migrations.start(await current(world), deadline=in_time())
    async with asyncio.timeout(60):
        while not await world.records.face_spaces.count_copied((await current(world)).id, NEW):
            await asyncio.sleep(0.01)
    await world.service.migrations.close()
    copied = await world.records.face_spaces.count_copied((await current(world)).id, NEW)
    assert 0 < copied < 100
    world.embedder.pause_seconds = 0
    before = world.embedder.calls
    service, _ = collections_on(world.vectors, world.records, tmp_path, world.embedder)
    async with service.running():
        await until_switched(world)
    # what was copied is not embedded again; one more call is the check of a sample
    assert world.embedder.calls - before <= -(-(100 - copied) // 32) + 1
    assert await who(world, 99, space=NEW) == ["p99"]


async def test_a_collection_without_crops_stays_where_it_is(world: World) -> None:
    await make(world)
    await enrol(world, 1)
    with pytest.raises(ConflictError, match="newest space"):
        await world.service.migrations.start(await current(world), deadline=in_time())
    world.embedder.spaces = [OLD, NEW]
    with pytest.raises(ConflictError, match="no crop"):
        await world.service.migrations.start(await current(world), deadline=in_time())
    assert await who(world, 1, space=NEW) == ["p1"]
