"""Server-sent events of jobs, as clients of another process read them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession

from gateway.errors import StorageUnavailableError
from gateway.records.engines import sqlite_url
from gateway.records.jobs import JobRecords
from tests.support.job_world import JobWorld, answer, job_world
from tests.support.records import add_migrated_sqlite

IN_FLIGHT = "aurum_http_requests_in_flight"
Event = tuple[str, str, dict[str, Any]]
"""Name, id, data."""


@pytest.fixture
async def world(tmp_path):
    async with opened(tmp_path) as made:
        yield made


@asynccontextmanager
async def opened(home, **settings) -> AsyncIterator[JobWorld]:
    file = home / "records.sqlite3"
    add_migrated_sqlite(file)
    async with job_world(home, sqlite_url(file), **settings) as made:
        yield made


def following(world: JobWorld, job_id: str, *, after: str | None = None, **query: str):
    headers = {} if after is None else {"Last-Event-ID": after}
    return world.client.get(f"/api/ml/jobs/{job_id}/events", headers=headers, params=query)


async def events_of(response: ClientResponse) -> AsyncIterator[Event]:
    """Read events until the stream ends; comments are skipped, as browsers do."""
    fields: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
            continue
        if "data" in fields:
            yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
        fields = {}


async def all_events(world: JobWorld, job_id: str, **more: str) -> list[Event]:
    async with asyncio.timeout(60), following(world, job_id, **more) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-ID"]
        return [event async for event in events_of(response)]


async def test_a_job_is_followed_to_its_end(world):
    job_id = await world.submit(6)
    async with asyncio.timeout(60), following(world, job_id) as response:
        events = events_of(response)
        name, identity, job = await anext(events)
        assert (name, identity, job["state"], job["done"]) == ("job", "", "queued", 0)
        await world.work(2, failing=(1,))
        first, second, counts = [await anext(events) for _ in range(3)]
        assert first == ("item", "1", {"index": 0, "name": "0.jpg", "status": "ok"})
        error = {"code": "no_face", "detail": "no face"}
        assert second == (
            "item",
            "2",
            {"index": 1, "name": "1.jpg", "status": "error", "error": error},
        )
        assert counts[0] == "job"
        assert (counts[2]["state"], counts[2]["done"], counts[2]["failed"]) == ("running", 1, 1)
        await world.work()
        rest = [event async for event in events]
    assert [each[2]["index"] for each in rest if each[0] == "item"] == [2, 3, 4, 5]
    name, identity, job = rest[-1]
    assert (name, identity, job["state"], job["done"]) == ("job", "6-end", "done", 5)


async def test_a_broken_stream_resumes_behind_the_last_event(world):
    job_id = await world.submit(5)
    await world.work(failing=(3,))
    events = await all_events(world, job_id, after="3", results="true")
    assert [each[1] for each in events] == ["4", "5", "5-end"]
    assert events[1][2]["result"] == answer(4)
    assert [each[1] for each in await all_events(world, job_id, after="5")] == ["5-end"]
    async with following(world, job_id, after="5-end") as response:
        # what browsers take as: do not connect again
        assert response.status == 204
    for wrong in ("x", "-1", "5-ended", "9" * 30):
        async with following(world, job_id, after=wrong) as response:
            assert response.status == 400
            assert "Last-Event-ID" in (await response.json())["detail"]


async def test_a_repeated_job_goes_on_counting(world):
    job_id = await world.submit(3)
    await world.work(failing=(0, 1, 2))
    assert [each[1] for each in await all_events(world, job_id)] == ["1", "2", "3", "3-end"]
    await world.call("POST", f"/{job_id}/retry", status=202)
    await world.work()
    events = await all_events(world, job_id, after="3-end")
    assert [each[1] for each in events] == ["4", "5", "6", "6-end"]
    assert [each[1] for each in await all_events(world, job_id)] == ["4", "5", "6", "6-end"]


async def test_a_cancelled_job_ends_the_stream(world):
    job_id = await world.submit(2)
    async with asyncio.timeout(60), following(world, job_id) as response:
        events = events_of(response)
        await anext(events)
        await world.call("DELETE", f"/{job_id}")
        assert [each[2]["state"] async for each in events] == ["cancelled"]


async def test_thousands_of_events_arrive_once_and_in_order(world):
    count = 1500
    job_id = await world.submit(count)

    async def work() -> None:
        while items := await world.claim(200):
            await asyncio.gather(*(world.finish(item) for item in items))

    working = asyncio.create_task(work())
    events = await all_events(world, job_id)
    await working
    items = [each for each in events if each[0] == "item"]
    assert [each[1] for each in items] == [str(number) for number in range(1, count + 1)]
    assert sorted(each[2]["index"] for each in items) == list(range(count))
    assert events[-1][2]["done"] == count


async def test_heartbeats_show_that_the_stream_lives(world, monkeypatch):
    monkeypatch.setattr("gateway.api.jobs.events.HEARTBEAT_SECONDS", 0.0)
    job_id = await world.submit(1)
    async with asyncio.timeout(60), following(world, job_id) as response:
        lines = []
        while lines.count(b":\n") < 2:
            lines.append(await response.content.readline())
    assert lines[0] == b"retry: 2000\n"


async def test_a_client_that_hangs_up_leaves_nothing_behind(world):
    job_id = await world.submit(1)
    for _ in range(3):
        async with following(world, job_id) as response:
            await anext(events_of(response))
            assert await world.metric(IN_FLIGHT) == 2
            response.close()
        async with asyncio.timeout(60):
            while await world.metric(IN_FLIGHT) > 1:
                await asyncio.sleep(0.02)


async def test_a_stopping_gateway_ends_streams_at_once(tmp_path):
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(opened(tmp_path, request_timeout_seconds=60))
        path = f"/api/ml/jobs/{await world.submit(1)}"
        # a client of its own: that of the gateway's fixture goes before the gateway does
        async with ClientSession(world.client._base_url) as client:
            response = await client.get(f"{path}/events")
            await anext(events_of(response))
            waiting = asyncio.create_task(client.get(path, params={"wait": "60"}))
            async with asyncio.timeout(60):
                while await world.metric(IN_FLIGHT) < 3:
                    await asyncio.sleep(0.01)
            started = time.monotonic()
            stopping = asyncio.create_task(stack.aclose())
            with pytest.raises(ClientPayloadError):
                await response.read()
            answer = await waiting
            assert answer.status == 503
            assert (await answer.json())["code"] == "jobs_unavailable"
            await stopping
    # those in flight are waited for until their deadline
    assert time.monotonic() - started < 30


async def test_a_failure_breaks_the_stream_off_so_that_it_is_resumed(world, monkeypatch):
    job_id = await world.submit(1)
    async with asyncio.timeout(60), following(world, job_id) as response:
        await anext(events_of(response))

        async def away(*_: Any) -> None:
            raise StorageUnavailableError("records: away")

        monkeypatch.setattr(JobRecords, "get", away)
        with pytest.raises(ClientPayloadError):
            await response.read()
        monkeypatch.undo()
    await world.work()
    assert (await all_events(world, job_id))[-1][1] == "1-end"
