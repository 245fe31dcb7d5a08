"""Results of jobs over HTTP: pages of JSON, streams of NDJSON and CSV."""

import asyncio
import csv
import io
import json
import socket

import psutil
import pytest

from gateway.records.engines import sqlite_url
from tests.support.job_world import answer, job_world
from tests.support.records import add_migrated_sqlite

MEBIBYTE = 1 << 20
IN_FLIGHT = "aurum_http_requests_in_flight"


@pytest.fixture
async def world(tmp_path):
    file = tmp_path / "records.sqlite3"
    add_migrated_sqlite(file)
    async with job_world(tmp_path, sqlite_url(file)) as made:
        yield made


async def test_a_page_has_results_errors_and_images_that_wait(world):
    job_id = await world.submit(4)
    await world.work(3, failing=(1,))
    page = await world.call("GET", f"/{job_id}/results")
    assert page["job_id"] == job_id
    assert page["next_cursor"] is None
    assert page["results"] == [
        {"index": 0, "name": "0.jpg", "status": "ok", "result": answer(0)},
        {
            **{"index": 1, "name": "1.jpg", "status": "error"},
            "error": {"code": "no_face", "detail": "no face"},
        },
        {"index": 2, "name": "2.jpg", "status": "ok", "result": answer(2)},
        {"index": 3, "name": "3.jpg", "status": "queued"},
    ]


async def test_pages_follow_each_other(world):
    job_id = await world.submit(100)
    await world.work(failing=(40, 41, 99))
    seen, cursor, sizes = [], None, []
    while cursor is not None or not seen:
        query = {"limit": "45"} | ({} if cursor is None else {"cursor": cursor})
        page = await world.call("GET", f"/{job_id}/results", params=query)
        seen += [each["index"] for each in page["results"]]
        sizes.append(len(page["results"]))
        cursor = page["next_cursor"]
    assert seen == list(range(100))
    assert sizes == [45, 45, 10]
    page = await world.call("GET", f"/{job_id}/results?status=error&limit=3")
    assert [each["index"] for each in page["results"]] == [40, 41, 99]
    assert page["next_cursor"] is None
    for cursor in ("x", "WyJhIl0"):
        await world.call("GET", f"/{job_id}/results", params={"cursor": cursor}, status=400)
    # beyond every index, and beyond what PostgreSQL can compare
    page = await world.call("GET", f"/{job_id}/results", params={"cursor": "WzkwMDAwMDAwMDAwMDBd"})
    assert page["results"] == []


async def test_a_page_with_large_results_is_shorter(world, monkeypatch):
    monkeypatch.setattr("gateway.api.jobs.results._PAGE_BYTES", 2500)
    job_id = await world.submit(5)
    for item in await world.claim():
        await world.finish(item, {"faces": [], "filling": "x" * 1000})
    page = await world.call("GET", f"/{job_id}/results")
    assert [each["index"] for each in page["results"]] == [0, 1, 2]
    rest = await world.call("GET", f"/{job_id}/results", params={"cursor": page["next_cursor"]})
    assert [each["index"] for each in rest["results"]] == [3, 4]


@pytest.mark.parametrize(
    "asked", [{"params": {"format": "ndjson"}}, {"headers": {"Accept": "application/x-ndjson"}}]
)
async def test_ndjson_has_the_whole_job(world, asked):
    job_id = await world.submit(70)
    await world.work(failing=(69,))
    text, headers = await world.read(f"/{job_id}/results", **asked)
    lines = [json.loads(line) for line in text.splitlines()]
    assert [each["index"] for each in lines] == list(range(70))
    assert lines[0]["result"] == answer(0)
    assert lines[69]["error"]["code"] == "no_face"
    assert headers["Content-Type"] == "application/x-ndjson"
    assert headers["Content-Disposition"] == f'attachment; filename="job-{job_id}.ndjson"'
    assert headers["X-Request-ID"]
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_csv_has_a_row_for_each_image(world):
    names = ["=cmd|'/c calc'!A1", 'a "b", c.jpg', "ü.jpg", "0.jpg"]
    job_id = await world.submit(4, operation="score", names=names)
    items = await world.claim(3)
    await world.finish(items[0], answer(0, score=6.5))
    await world.finish(items[1], {"faces": [], "faces_found": 0})
    await world.fail(items[2], "invalid_image", "@sum: truncated\nhere")
    text, headers = await world.read(f"/{job_id}/results", params={"format": "csv"})
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows[0] == {
        **{"index": "0", "name": "'=cmd|'/c calc'!A1", "status": "ok", "code": "", "detail": ""},
        **{"faces": "2", "score": "6.5", "x1": "10.0", "y1": "20.0", "x2": "30.0", "y2": "40.5"},
        **{"confidence": "0.9", "acceptable": "true"},
    }
    assert (rows[1]["name"], rows[1]["faces"], rows[1]["score"]) == ('a "b", c.jpg', "0", "")
    assert (rows[2]["status"], rows[2]["detail"]) == ("error", "'@sum: truncated\nhere")
    assert (rows[3]["status"], rows[3]["faces"]) == ("queued", "")


async def test_an_empty_selection_is_a_header_alone(world):
    job_id = await world.submit(1)
    text, _ = await world.read(f"/{job_id}/results?format=csv&status=error")
    assert text.splitlines() == [
        "index,name,status,code,detail,faces,x1,y1,x2,y2,confidence,acceptable"
    ]
    assert (await world.read(f"/{job_id}/results?format=ndjson&status=error"))[0] == ""
    text, _ = await world.read(f"/{job_id}/results?format=ndjson&limit=1")
    assert len(text.splitlines()) == 1


async def test_head_answers_without_a_body(world):
    job_id = await world.submit(1)
    for path in ("results?format=csv", "results", "events"):
        async with world.client.head(f"/api/ml/jobs/{job_id}/{path}") as response:
            assert response.status == 200
            assert await response.read() == b""


async def test_a_stream_takes_no_more_memory_than_a_few_results(world):
    count, filling = 400, "x" * 250_000
    job_id = await world.submit(count)
    result = {"faces": [], "filling": filling}
    # a few at a time: this process is the one that is measured
    while items := await world.claim(20):
        await asyncio.gather(*(world.finish(item, result) for item in items))
    process = psutil.Process()
    before = process.memory_info().rss
    most, size = 0, 0
    async with world.client.get(f"/api/ml/jobs/{job_id}/results?format=ndjson") as response:
        async for piece in response.content.iter_chunked(1 << 16):
            size += len(piece)
            most = max(most, process.memory_info().rss - before)
    assert size > count * len(filling)
    # client and gateway share this process; the whole would be 100 MB, and sealed twice that
    assert most < 90 * MEBIBYTE


async def test_a_reader_that_stalls_is_given_up_and_frees_its_place(world, monkeypatch):
    monkeypatch.setattr("gateway.api.streams._STALLED_SECONDS", 0.3)
    job_id = await world.submit(200)
    result = {"faces": [], "filling": "x" * 100_000}
    await asyncio.gather(*(world.finish(item, result) for item in await world.claim()))
    base = world.client._base_url
    with socket.socket() as raw:
        # little room, so that what is not taken stays with the gateway
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect((base.host, base.port))
        raw.sendall(
            f"GET /api/ml/jobs/{job_id}/results?format=ndjson HTTP/1.1\r\n"
            "Host: localhost\r\n\r\n".encode()
        )
        # beside the one that asks
        async with asyncio.timeout(60):
            while await world.metric(IN_FLIGHT) < 2:
                await asyncio.sleep(0.01)
            while await world.metric(IN_FLIGHT) > 1:
                await asyncio.sleep(0.05)
