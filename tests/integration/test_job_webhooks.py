"""Webhooks of jobs, sent to a real receiver, on SQLite and PostgreSQL."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import ConfigurationError
from gateway.jobs.webhook_policy import tenant_secret
from tests.support.job_world import JobWorld, job_world
from tests.support.records import migrated_postgres, migrated_url
from tests.support.webhook_receiver import SECRET, Receiver

__all__ = ["migrated_postgres", "migrated_url"]


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("gateway.jobs.webhook_policy.RETRY_SECONDS", (0.1,) * 10)
    monkeypatch.setattr("gateway.jobs.webhooks._POLL_SECONDS", 0.05)
    monkeypatch.setattr("gateway.jobs.webhooks._IDLE_POLL_SECONDS", 0.05)
    # a gateway that stops while it delivers keeps its claim so much longer
    monkeypatch.setattr("gateway.jobs.webhooks._LEASE_MARGIN_SECONDS", 1.0)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.05)


async def webhook_of(world: JobWorld, job_id: str) -> dict:
    return (await world.call("GET", f"/{job_id}"))["webhook"]


async def test_a_webhook_arrives_in_spite_of_failures_and_restarts(tmp_path, migrated_url, caplog):
    caplog.set_level(logging.DEBUG, "gateway")
    receiver = Receiver([500, 302])

    def serve():
        return job_world(
            tmp_path,
            migrated_url,
            webhook_hosts=receiver.host,
            webhook_secret=SECRET,
            webhook_timeout_seconds=3.0,
        )

    async with receiver.running(), serve() as world:
        job_id = await world.submit(2, webhook_url=receiver.url)
        assert await webhook_of(world, job_id) == {"state": "none", "attempts": 0}
        await world.work(failing=(1,))
        # refused with 500, then redirected, which is not followed
        await until(lambda: _eventually(len(receiver.deliveries) >= 2))
        assert await world.metric('aurum_job_webhooks_total{outcome="refused"}') >= 1
    async with serve() as world:
        # the receiver is away
        await until(lambda: _at_least(world, 'outcome="unreachable"', 2))
        async with receiver.running():

            async def is_sent() -> bool:
                return (await webhook_of(world, job_id))["state"] == "sent"

            await until(is_sent)
            assert (await webhook_of(world, job_id))["attempts"] >= 5
            assert await world.metric('aurum_job_webhooks_total{outcome="delivered"}') == 1
            await asyncio.sleep(0.3)
    assert receiver.paths == ["/hook?token=inside"] * len(receiver.paths)
    # the second gateway may have claimed it once before the first one's attempt was noted
    assert len(receiver.jobs) == 3
    assert len(set(receiver.deliveries)) == 1
    job = receiver.jobs[-1]
    assert (job["job_id"], job["state"], job["done"], job["failed"]) == (job_id, "done", 1, 1)
    assert job["webhook"]["state"] == "due"
    assert job["detail"] == "1 image of 2 failed; POST …/retry repeats them"
    assert "request_id" not in job
    for hidden in (SECRET, "token=inside", "Aurum-Signature"):
        assert hidden not in caplog.text


async def _eventually(holds: bool) -> bool:
    return holds


async def _at_least(world: JobWorld, label: str, least: int) -> bool:
    return await world.metric(f"aurum_job_webhooks_total{{{label}}}") >= least


@pytest.mark.parametrize(("statuses", "attempts"), [([503] * 9, 3), ([410], 1)])
async def test_a_webhook_is_given_up(tmp_path, migrated_url, monkeypatch, statuses, attempts):
    monkeypatch.setattr("gateway.jobs.webhook_policy.RETRY_SECONDS", (0.05, 0.05))
    receiver = Receiver(list(statuses))
    async with (
        receiver.running(),
        job_world(
            tmp_path, migrated_url, webhook_hosts=receiver.host, webhook_secret=SECRET
        ) as world,
    ):
        job_id = await world.submit(1, webhook_url=receiver.url)
        await world.call("DELETE", f"/{job_id}")

        async def has_failed() -> bool:
            return await webhook_of(world, job_id) == {"state": "failed", "attempts": attempts}

        await until(has_failed)
        await until(lambda: _at_least(world, 'outcome="given_up"', 1))
        assert len(receiver.jobs) == attempts
        assert receiver.jobs[0]["state"] == "cancelled"


async def test_of_several_gateways_one_delivers(tmp_path, migrated_url):
    receiver = Receiver()
    count = 20
    settings = {"webhook_secret": SECRET}
    async with (
        receiver.running(),
        job_world(tmp_path, migrated_url, webhook_hosts=receiver.host, **settings) as world,
        job_world(tmp_path, migrated_url, webhook_hosts=receiver.host, **settings) as other,
    ):
        made = [await world.submit(1, webhook_url=receiver.url) for _ in range(count)]
        while await world.work():
            pass

        async def are_sent() -> bool:
            jobs = (await other.call("GET", ""))["jobs"]
            return all(job["webhook"]["state"] == "sent" for job in jobs)

        await until(are_sent)
    assert sorted(job["job_id"] for job in receiver.jobs) == sorted(made)


async def test_hosts_that_are_not_allowed_any_more_get_nothing(tmp_path, migrated_url):
    receiver = Receiver()
    async with receiver.running(), job_world(tmp_path, migrated_url) as world:
        job_id = await world.submit(1, webhook_url=receiver.url)
        await world.work()

        async def has_failed() -> bool:
            return (await webhook_of(world, job_id))["state"] == "failed"

        await until(has_failed)
    assert receiver.paths == []


async def test_hosts_need_a_secret(tmp_path, migrated_url):
    with pytest.raises(ConfigurationError, match="AURUM_WEBHOOK_SECRET"):
        async with job_world(tmp_path, migrated_url, webhook_hosts="a.example.com"):
            pass


async def test_a_receiver_that_hangs_delays_no_other(tmp_path, migrated_url):
    """It gets eight deliveries at a time, whatever the path; the next go to whoever answers."""
    hanging, waiting = asyncio.Event(), []

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        waiting.append(await reader.readline())
        await hanging.wait()

    receiver = Receiver()
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with receiver.running():
        async with job_world(
            tmp_path,
            migrated_url,
            webhook_hosts=f"{receiver.host},127.0.0.1:{port}",
            webhook_secret=SECRET,
            webhook_timeout_seconds=300.0,
        ) as world:
            for number in range(20):
                await world.submit(1, webhook_url=f"http://127.0.0.1:{port}/hook/{number}?a=b")
            job_id = await world.submit(1, webhook_url=receiver.url)
            while await world.work():
                pass
            await until(lambda: _eventually(len(waiting) == 8 and len(receiver.jobs) == 1))
            assert receiver.jobs[0]["job_id"] == job_id
            # ninth and later ones wait until one has ended, not for the next look
            await asyncio.sleep(0.3)
            assert len(waiting) == 8
        server.close()
        hanging.set()


async def test_nothing_is_sent_of_a_job_that_has_expired(tmp_path, migrated_url, monkeypatch):
    monkeypatch.setattr("gateway.jobs.webhook_policy.RETRY_SECONDS", (7200.0,) * 10)
    receiver = Receiver([500] * 100)
    async with (
        receiver.running(),
        job_world(
            tmp_path, migrated_url, webhook_hosts=receiver.host, webhook_secret=SECRET
        ) as world,
    ):
        kept = {"webhook_url": receiver.url, "retention_seconds": 0.0}
        expired = await world.submit(1, **kept)
        # its first attempt is in time, the second one would not be
        soon = await world.submit(1, **kept | {"retention_seconds": 3600.0})
        while await world.work():
            pass

        async def has_failed(job_id: str) -> bool:
            return (await webhook_of(world, job_id))["state"] == "failed"

        await until(lambda: has_failed(expired))
        await until(lambda: has_failed(soon))
        assert {job["job_id"] for job in receiver.jobs} == {soon}
        assert len(receiver.jobs) == 1


async def test_each_tenant_checks_its_own_secret(tmp_path, migrated_url):
    receiver = Receiver()
    async with (
        receiver.running(),
        job_world(
            tmp_path, migrated_url, webhook_hosts=receiver.host, webhook_secret=SECRET
        ) as world,
    ):
        secrets = {}
        for tenant in ("default", "acme"):
            async with world.client.get(
                "/api/admin/webhook-secret", headers={"X-Tenant": tenant}
            ) as response:
                assert response.headers["Cache-Control"] == "no-store"
                body = await response.json()
                assert body["tenant"] == tenant
                secrets[tenant] = body["secret"]
            await world.submit(1, tenant=tenant, webhook_url=receiver.url)
        while await world.work():
            pass
        await until(lambda: _eventually(len(receiver.jobs) == 2))
    assert len(set(secrets.values())) == 2
    assert {job["tenant"] for job in receiver.jobs} == secrets.keys()
    # the receiver checks each delivery with the secret of the tenant that its body names
    assert secrets["acme"] == tenant_secret(SECRET, "acme")


async def test_without_webhooks_there_is_no_secret(tmp_path, migrated_url):
    async with (
        job_world(tmp_path, migrated_url) as world,
        world.client.get("/api/admin/webhook-secret") as response,
    ):
        assert response.status == 404
        assert (await response.json(content_type=None))["code"] == "not_found"
