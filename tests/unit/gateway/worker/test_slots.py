"""Slots whose number changes."""

import asyncio

import pytest

from gateway.worker.slots import Slots


async def hold(slots: Slots, taken: list[int], number: int, release: asyncio.Event) -> None:
    async with slots.take():
        taken.append(number)
        await release.wait()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_are_taken_than_there_are():
    slots, taken, release = Slots(2), [], asyncio.Event()
    tasks = [asyncio.create_task(hold(slots, taken, n, release)) for n in range(5)]
    await turns()
    assert (taken, slots.taken) == ([0, 1], 2)
    release.set()
    await asyncio.gather(*tasks)
    assert (sorted(taken), slots.taken) == ([0, 1, 2, 3, 4], 0)


async def test_more_slots_let_those_go_on_that_wait():
    slots, taken, release = Slots(1), [], asyncio.Event()
    tasks = [asyncio.create_task(hold(slots, taken, n, release)) for n in range(3)]
    await turns()
    slots.resize(3)
    await turns()
    assert taken == [0, 1, 2]
    release.set()
    await asyncio.gather(*tasks)


async def test_fewer_slots_wait_for_those_in_use():
    slots, taken = Slots(2), []
    first, second = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(hold(slots, taken, n, e)) for n, e in enumerate((first, second))]
    await turns()
    slots.resize(1)
    tasks.append(asyncio.create_task(hold(slots, taken, 2, second)))
    first.set()
    await turns()
    assert (taken, slots.taken) == ([0, 1], 1)
    second.set()
    await asyncio.gather(*tasks)
    assert taken == [0, 1, 2]


@pytest.mark.parametrize("limit", [0, -3])
async def test_one_slot_is_left_in_any_case(limit):
    slots = Slots(4)
    slots.resize(limit)
    assert slots.limit == 1


async def test_whoever_gives_up_waiting_takes_none():
    slots, taken, release = Slots(1), [], asyncio.Event()
    holder = asyncio.create_task(hold(slots, taken, 0, release))
    await turns()
    waiter = asyncio.create_task(hold(slots, taken, 1, release))
    await turns()
    waiter.cancel()
    release.set()
    await asyncio.wait({holder, waiter})
    assert (taken, slots.taken) == ([0], 0)
