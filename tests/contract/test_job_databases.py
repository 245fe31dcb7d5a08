"""Databases of jobs: made from the release before, away, and read by their indexes."""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import event, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from gateway.errors import StorageUnavailableError
from gateway.records import clock
from gateway.records.engines import sqlite_url, with_driver
from gateway.records.store import RecordStore
from tests.contract.test_records_migrations import upgrade
from tests.support.job_records import badly, claim, found, submitted, well
from tests.support.records import SetClock


async def test_tables_of_the_release_before_are_kept(database_url: str) -> None:
    engine = create_async_engine(with_driver(database_url))
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, "0004")
        await connection.execute(
            text(
                "INSERT INTO collections"
                " (id, tenant, name, state, settings, created_at, updated_at)"
                " VALUES ('c', 'default', 'people', 'active', '{}', 1, 1)"
            )
        )
        assert not await connection.run_sync(lambda c: inspect(c).has_table("jobs"))
    await engine.dispose()
    store = await RecordStore.open(database_url)
    try:
        kept = await store.collections.find(tenant="default", name="people")
        assert kept is not None
        assert kept.id == "c"
        job = await submitted(store, 1)
        (item,) = await claim(store)
        assert await store.job_queue.finish(item, well())
        assert (await found(store, job)).state == "done"
    finally:
        await store.close()


async def test_a_database_that_is_away_is_named(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite3"
    store = await RecordStore.open(sqlite_url(file))
    try:
        job = await submitted(store, 3)
        items = await claim(store)
        async with store._database.write() as connection:
            await connection.execute(text("ALTER TABLE job_items RENAME TO elsewhere"))
        calls = [
            claim(store),
            store.job_queue.renew("w", items, 30),
            store.job_queue.finish(items[0], well()),
            store.job_queue.finish(items[1], well()),
            store.job_queue.release(items),
            store.jobs.results(job.id, limit=9),
            store.jobs.depth(),
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StorageUnavailableError] * len(calls)
        async with store._database.write() as connection:
            await connection.execute(text("ALTER TABLE elsewhere RENAME TO job_items"))
        assert await store.job_queue.finish(items[0], well()), "it works again"
    finally:
        await store.close()


async def test_sqlite_reads_only_a_few_images(tmp_path: Path, set_clock: SetClock) -> None:
    """What workers ask costs the same in a job of 10,000 images beside a hundred others."""
    file = tmp_path / "records.sqlite3"
    store = await RecordStore.open(sqlite_url(file))
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    event.listen(store._database._reads.sync_engine, "before_cursor_execute", note)
    try:
        queue, job = store.job_queue, await submitted(store, 9)
        items = await claim(store)
        await queue.renew("w", items, 30)
        ends = (queue.finish(item, badly()) for item in items[:3])
        await asyncio.gather(*ends)
        await queue.retry_later(items[3], delay_seconds=0, code="timeout", detail="slow")
        await queue.release(items[4:6])
        await queue.release_worker("w")
        await store.jobs.retry_failed(job.tenant, job.id)
        for _ in range(2):
            # a lost image twice: whether another such image is held
            await claim(store)
            await queue.release_worker("w")
        await store.jobs.depth()
        await store.jobs.results(job.id, limit=9, after_index=3)
        await store.jobs.results(job.id, limit=9, status="ok")
        await store.jobs.events(job.id, limit=9)
        await store.jobs.cancel(job.tenant, job.id)
        await store.jobs.expire(clock.now() + 1e6)
        await store.jobs.forget(clock.now() + 1e6)
    finally:
        await store.close()
    looked_at = 0
    with closing(sqlite3.connect(file)) as connection:
        for statement, parameters in asked:
            if "job_" not in statement or statement.startswith("INSERT"):
                continue
            row = parameters[0] if isinstance(parameters, list) else parameters
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", row).fetchall()
            for *_, step in plan:
                looked_at += 1
                assert not re.search(r"SCAN job_(items|results)", step), statement
                # all images of a job: for the first of them, or where the job is controlled
                whole = re.search(r"job_(items|results) .*\(job_id=\?\)$", step)
                assert not whole or "LIMIT" in statement or _controls(statement), statement
    assert looked_at > 30


def _controls(statement: str) -> bool:
    """Whether a statement is one of repeating failed images or of removing a job."""
    return "job_results.status = " in statement or statement.startswith("DELETE FROM jobs")
