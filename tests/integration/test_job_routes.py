"""Jobs over HTTP: listed, shown, controlled, on SQLite and PostgreSQL."""

import asyncio
import time

import pytest

from gateway.concurrency import BackgroundTasks
from gateway.jobs.service import Jobs
from gateway.jobs.webhook_policy import WebhookPolicy
from gateway.records import clock
from gateway.types import DEFAULT_TENANT
from tests.support.job_world import job_world
from tests.support.records import migrated_postgres, migrated_url

__all__ = ["migrated_postgres", "migrated_url"]

JOB_KEYS = {
    *("job_id", "operation", "state", "total", "done", "failed", "skipped", "created_at"),
    *("started_at", "finished_at", "expires_at", "images_per_second", "seconds_left", "detail"),
    *("collection", "webhook"),
}


@pytest.fixture
async def world(tmp_path, migrated_url):
    async with job_world(tmp_path, migrated_url) as made:
        yield made


async def test_a_job_is_shown_from_its_submission_to_its_end(world):
    job_id = await world.submit(10)
    shown = await world.call("GET", f"/{job_id}")
    assert set(shown) == {*JOB_KEYS, "request_id"}
    assert (shown["state"], shown["total"], shown["done"]) == ("queued", 10, 0)
    assert shown["detail"] == "no worker is running; start one with: aurum serve worker"
    assert shown["images_per_second"] is shown["seconds_left"] is None
    assert shown["expires_at"] is None
    assert shown["webhook"] is None

    await world.beat()
    await world.work(4, failing=(1,))
    shown = await world.call("GET", f"/{job_id}")
    assert (shown["state"], shown["done"], shown["failed"]) == ("running", 3, 1)
    assert shown["detail"] is None
    assert shown["images_per_second"] > 0
    assert shown["seconds_left"] == pytest.approx(6 / shown["images_per_second"], rel=0.2, abs=0.1)

    await world.work()
    shown = await world.call("GET", f"/{job_id}")
    assert (shown["state"], shown["done"], shown["failed"]) == ("done", 9, 1)
    assert shown["detail"] == "1 image of 10 failed; POST …/retry repeats them"
    assert shown["images_per_second"] is shown["seconds_left"] is None
    assert shown["finished_at"] is not None
    assert shown["expires_at"] > shown["finished_at"]


async def test_the_detail_says_why_images_wait(world):
    job_id = await world.submit(2)
    await world.beat()
    for item in await world.claim():
        assert await world.records.job_queue.retry_later(
            item, delay_seconds=60, code="inference_unavailable", detail="Triton is away"
        )
    shown = await world.call("GET", f"/{job_id}")
    assert shown["detail"] == (
        "images wait for another attempt: inference_unavailable (Triton is away)"
    )
    page = await world.call("GET", f"/{job_id}/results")
    assert page["results"][0]["status"] == "queued"
    assert page["results"][0]["error"]["code"] == "inference_unavailable"


async def test_a_page_of_waiting_jobs_costs_few_questions(world):
    made = [await world.submit(1) for _ in range(12)]
    for item in [(await world.claim())[0] for _ in range(3)]:
        assert await world.records.job_queue.retry_later(
            item, delay_seconds=60, code=f"c{made.index(item.job.id)}", detail="d"
        )
    reads = []
    world.records.observe(lambda operation, seconds, worked: reads.append(operation))
    async with BackgroundTasks() as background:
        policy = WebhookPolicy(frozenset(), "")
        jobs = Jobs(world.records, None, world.cipher, policy, background)
        page = await world.records.jobs.page(DEFAULT_TENANT, limit=20)
        await world.beat()
        reads.clear()
        views = {view.record.id: view.detail for view in await jobs.views(page)}
    # images that ended, images that wait, workers
    assert reads == ["read"] * 3
    waiting = [f"images wait for another attempt: c{number} (d)" for number in range(3)]
    assert [views[job_id] for job_id in made] == [*waiting, *[None] * 9]


async def test_jobs_are_listed_newest_first_page_by_page_and_by_state(world):
    made = [await world.submit(1) for _ in range(5)]
    await world.call("DELETE", f"/{made[0]}")
    await world.call("POST", f"/{made[1]}/pause")
    seen, cursor = [], ""
    while cursor is not None:
        page = await world.call(
            "GET", "", params={"limit": "2"} | ({"cursor": cursor} if cursor else {})
        )
        assert all(set(job) == JOB_KEYS for job in page["jobs"])
        seen += [job["job_id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
    assert seen == made[::-1]
    page = await world.call("GET", "", params={"state": "cancelled,paused"})
    assert [job["job_id"] for job in page["jobs"]] == [made[1], made[0]]
    await world.call("GET", "", params={"state": "lost"}, status=400)
    await world.call("GET", "", params={"cursor": "WzFd"}, status=400)


async def test_jobs_of_another_tenant_are_not_found(world):
    job_id = await world.submit(1, tenant="other")
    assert (await world.call("GET", ""))["jobs"] == []
    for method, path in (
        *(("GET", path) for path in ("", "/results", "/events")),
        *(("POST", path) for path in ("/retry", "/pause", "/resume")),
        ("DELETE", ""),
    ):
        answer = await world.call(method, f"/{job_id}{path}", status=404)
        assert answer["detail"] == f"there is no job {job_id}"
        await world.call(method, f"/none{path}", status=404)
    own = {"X-Tenant": "other"}
    assert (await world.call("GET", f"/{job_id}", headers=own))["state"] == "queued"


async def test_an_enrolment_needs_the_permission_to_enrol(world):
    job_id = await world.submit(1, operation="enrol", collection="people")
    lacking = {"X-Lacks": "enrol"}
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/pause"), ("DELETE", "")):
        answer = await world.call(method, f"/{job_id}{path}", headers=lacking, status=403)
        assert answer["code"] == "forbidden"
    assert (await world.call("GET", f"/{job_id}"))["collection"] == "people"
    await world.call("GET", f"/{await world.submit(1)}", headers=lacking)


async def test_a_cancelled_job_keeps_its_results(world):
    job_id = await world.submit(5)
    await world.work(2)
    held = await world.claim(1)
    shown = await world.call("DELETE", f"/{job_id}")
    assert (shown["state"], shown["detail"]) == ("cancelled", "cancelled with 3 images left")
    again = await world.call("DELETE", f"/{job_id}")
    assert again | {"request_id": ""} == shown | {"request_id": ""}
    with pytest.raises(AssertionError):
        await world.finish(held[0])
    page = await world.call("GET", f"/{job_id}/results")
    assert [each["status"] for each in page["results"]] == ["ok", "ok"] + ["cancelled"] * 3
    for path in ("/retry", "/pause", "/resume"):
        assert (await world.call("POST", f"/{job_id}{path}", status=409))["code"] == "conflict"


async def test_a_paused_job_waits_until_it_is_resumed(world):
    job_id = await world.submit(2)
    shown = await world.call("POST", f"/{job_id}/pause")
    assert shown["state"] == "paused"
    assert "resume" in shown["detail"]
    assert await world.work() == 0
    assert (await world.call("POST", f"/{job_id}/resume"))["state"] == "queued"
    assert await world.work() == 2
    assert (await world.call("GET", f"/{job_id}"))["state"] == "done"


async def test_failed_images_are_repeated(world):
    job_id = await world.submit(3)
    await world.work(failing=(0, 2))
    shown = await world.call("POST", f"/{job_id}/retry", status=202)
    assert (shown["state"], shown["done"], shown["failed"]) == ("queued", 1, 0)
    await world.work()
    assert (await world.call("GET", f"/{job_id}"))["done"] == 3
    refused = await world.call("POST", f"/{job_id}/retry", status=409)
    assert "no failed image" in refused["detail"]


async def test_waiting_ends_with_the_job_or_after_the_given_time(world):
    job_id = await world.submit(1)
    started = time.monotonic()
    shown = await world.call("GET", f"/{job_id}", params={"wait": "0.2"})
    assert shown["state"] == "queued"
    assert time.monotonic() - started >= 0.2
    waiting = asyncio.create_task(world.call("GET", f"/{job_id}", params={"wait": "60"}))
    await asyncio.sleep(0.1)
    await world.work()
    async with asyncio.timeout(60):
        assert (await waiting)["state"] == "done"
    await world.call("GET", f"/{job_id}", params={"wait": "61"}, status=400)


async def test_expired_results_are_gone_and_the_job_says_so(world):
    job_id = await world.submit(1, retention_seconds=60.0)
    await world.work()
    assert await world.records.jobs.expire(clock.now() + 61) == (job_id,)
    shown = await world.call("GET", f"/{job_id}")
    assert shown["state"] == "expired"
    assert "deleted" in shown["detail"]
    for format_ in ("json", "csv"):
        refused = await world.call("GET", f"/{job_id}/results?format={format_}", status=404)
        assert "their time was over" in refused["detail"]
