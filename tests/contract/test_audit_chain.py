"""The audit log on both databases: its chain, its triggers, its expiry, and every way to tamper."""

import asyncio
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway.concurrency import BackgroundTasks
from gateway.errors import ConfigurationError
from gateway.monitoring.audit_watch import watch_audit
from gateway.records.audit_anchor import Anchor, append_anchor, read_anchor_file
from gateway.records.audit_check import Verdict, verify
from gateway.records.audit_keys import AuditKeys
from gateway.records.database import Database
from gateway.records.engines import with_driver
from gateway.records.store import RecordStore
from gateway.records.types import AuditLine
from gateway.settings import Settings
from tests.contract.test_records_migrations import upgrade

TENANTS = ("acme", "initech")


def a_line(number: int) -> AuditLine:
    return AuditLine(
        at=1000.25 + number,
        tenant=TENANTS[number % 2],
        actor="key:a0b1c2",
        action="search_faces",
        collection="people",
        receipt="",
        counts={"images": number, "a": 1},
        request_id=f"r{number}",
        outcome="ok",
    )


@pytest.fixture
def keys(tmp_path: Path) -> AuditKeys:
    return AuditKeys.load(tmp_path / "keys" / "audit.key")


@pytest.fixture
async def store(migrated_url: str, keys: AuditKeys) -> AsyncIterator[RecordStore]:
    opened = await RecordStore.open(migrated_url, audit_keys=keys)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def engine(migrated_url: str) -> AsyncIterator[AsyncEngine]:
    """The database as somebody sees it who has its password."""
    made = create_async_engine(with_driver(migrated_url))
    try:
        yield made
    finally:
        await made.dispose()


async def fill(store: RecordStore, number: int, first: int = 0) -> None:
    for each in range(first, first + number):
        await store.audit.add(a_line(each))


async def judge(
    store: RecordStore, keys: AuditKeys | None, anchors: Sequence[Anchor] = ()
) -> Verdict:
    by_id = None if keys is None else keys.by_id
    return await verify(store.audit.rows(), keys=by_id, anchors=anchors)


async def drop_triggers(engine: AsyncEngine) -> None:
    """What an owner of the database can do."""
    names = (
        ("audit_no_update", "audit_no_delete", "audit_in_order")
        if engine.dialect.name == "sqlite"
        else ("audit_append_only", "audit_no_truncate", "audit_in_order")
    )
    # the database of PostgreSQL serves other tests afterwards
    drop = (
        "DROP TRIGGER" if engine.dialect.name == "sqlite" else "ALTER TABLE audit DISABLE TRIGGER"
    )
    async with engine.begin() as connection:
        for name in names:
            await connection.execute(text(f"{drop} {name}"))


async def run_sql(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def test_lines_continue_the_chain_and_hide_nothing(store, keys) -> None:
    await fill(store, 7)
    rows = [row async for row in store.audit.rows()]
    assert [row["id"] for row in rows] == list(range(1, 8))
    assert rows[0]["prev"] == "0" * 64
    for before, row in itertools.pairwise(rows):
        assert row["prev"] == before["hash"]
    assert len({row["hash"] for row in rows}) == 7
    assert {row["key_id"] for row in rows} == {keys.active_id}
    head = await store.audit.head()
    assert (head.line, head.hash) == (7, rows[-1]["hash"])
    verdict = await judge(store, keys)
    assert verdict.problem is None
    assert (verdict.lines, verdict.first, verdict.last, verdict.unkeyed) == (7, 1, 7, 0)


async def test_many_writers_make_one_chain(store, migrated_url, keys) -> None:
    """Three gateways write at once; none of their lines is lost or out of the chain."""
    others = [await RecordStore.open(migrated_url, audit_keys=keys) for _ in range(2)]
    try:
        writers = [store, *others]
        await asyncio.gather(
            *(writers[number % 3].audit.add(a_line(number)) for number in range(150))
        )
    finally:
        for other in others:
            await other.close()
    verdict = await judge(store, keys)
    assert verdict.problem is None
    assert verdict.lines == 150
    noted = {row["request_id"] async for row in store.audit.rows()}
    assert noted == {f"r{number}" for number in range(150)}


async def test_waiting_lines_share_a_transaction(store) -> None:
    calls: list[str] = []
    store.observe(lambda operation, _seconds, _worked: calls.append(operation))
    await asyncio.gather(*(store.audit.add(a_line(number)) for number in range(100)))
    # the first alone or with all others, then whatever came meanwhile
    assert 1 <= calls.count("write") <= 3


async def test_a_line_is_written_though_its_caller_hung_up(store) -> None:
    task = asyncio.ensure_future(store.audit.add(a_line(1)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.audit.settle()
    assert await store.audit.count() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody' WHERE id = 2",
        "DELETE FROM audit WHERE id = 2",
        "DELETE FROM audit",
        "INSERT INTO audit (id, at, tenant, actor, action, receipt, counts, prev, hash)"
        " VALUES (9, 1, 'acme', 'x', 'y', '', '{}', 'z', 'z')",
        "INSERT INTO audit (id, at, tenant, actor, action, receipt, counts)"
        " VALUES (9, 1, 'acme', 'x', 'y', '', '{}')",
    ],
)
async def test_the_database_refuses_changes(store, engine, statement: str) -> None:
    await fill(store, 3)
    with pytest.raises(DBAPIError, match="audit line"):
        await run_sql(engine, statement)
    assert await store.audit.count() == 3


async def test_the_database_refuses_what_it_has_beside(store, engine) -> None:
    """Emptying a table, and replacing a row, each by the words of its database."""
    await fill(store, 3)
    statement = (
        "INSERT OR REPLACE INTO audit SELECT id, at, tenant, 'x', action, collection, receipt,"
        " counts, request_id, outcome, expired_through, expired_hash, key_id, prev, hash"
        " FROM audit WHERE id = 2"
        if engine.dialect.name == "sqlite"
        else "TRUNCATE audit"
    )
    with pytest.raises(DBAPIError, match="audit line"):
        await run_sql(engine, statement)
    assert await store.audit.count() == 3


TAMPERED = {
    "actor": (["UPDATE audit SET actor = 'nobody' WHERE id = 3"], 3, "changed"),
    "time": (["UPDATE audit SET at = at + 0.001 WHERE id = 3"], 3, "changed"),
    "outcome": (["UPDATE audit SET outcome = NULL WHERE id = 3"], 3, "changed"),
    "tenant": (["UPDATE audit SET tenant = 'x' WHERE id = 1"], 1, "changed"),
    "counts": (["UPDATE audit SET counts = '{}' WHERE id = 6"], 6, "changed"),
    "hash": (["UPDATE audit SET hash = prev WHERE id = 3"], 3, "changed"),
    "key": (["UPDATE audit SET key_id = 'ffff' WHERE id = 3"], 3, "does not have"),
    "no key": (["UPDATE audit SET key_id = NULL WHERE id = 3"], 3, "no key"),
    "removed": (["DELETE FROM audit WHERE id = 3"], 4, "does not continue line 2"),
    "first removed": (["DELETE FROM audit WHERE id = 1"], 2, "lines before it were removed"),
    "inserted": (
        [
            "UPDATE audit SET id = 100 + id WHERE id > 3",
            "INSERT INTO audit SELECT 4, at, tenant, actor, action, collection, receipt, counts,"
            " request_id, outcome, expired_through, expired_hash, key_id, prev, hash"
            " FROM audit WHERE id = 3",
        ],
        4,
        "does not continue line 3",
    ),
    "reordered": (
        [
            "UPDATE audit SET id = 100 WHERE id = 3",
            "UPDATE audit SET id = 3 WHERE id = 4",
            "UPDATE audit SET id = 4 WHERE id = 100",
        ],
        3,
        "does not continue line 2",
    ),
    "appended": (
        [
            "INSERT INTO audit SELECT 7, at, tenant, actor, action, collection, receipt, counts,"
            " request_id, outcome, expired_through, expired_hash, key_id, hash, prev"
            " FROM audit WHERE id = 6",
        ],
        7,
        "changed",
    ),
}


@pytest.mark.parametrize("way", TAMPERED)
async def test_tampering_is_found(store, engine, keys, way: str) -> None:
    statements, line, problem = TAMPERED[way]
    await fill(store, 6)
    await drop_triggers(engine)
    assert (await judge(store, keys)).problem is None
    await run_sql(engine, *statements)
    verdict = await judge(store, keys)
    assert verdict.bad_line == line
    assert problem in str(verdict.problem)


async def test_a_rewritten_chain_is_found_without_its_key_and_by_its_anchor(
    store, engine, keys, migrated_url, tmp_path
) -> None:
    """Whoever empties the table and writes all lines anew has a chain, but not this one."""
    await fill(store, 6)
    file = tmp_path / "anchors" / "audit.anchor"
    append_anchor(file, await store.audit.head())
    anchors = read_anchor_file(file)
    await drop_triggers(engine)
    for forger in (None, AuditKeys.load(tmp_path / "other.key"), keys):
        await run_sql(engine, "DELETE FROM audit")
        forged = await RecordStore.open(migrated_url, audit_keys=forger)
        try:
            for number in range(8):
                await forged.audit.add(replace(a_line(number), actor="nobody"))
        finally:
            await forged.close()
        if forger is not keys:
            assert (await judge(store, keys)).problem is not None
        else:
            # who has the key, too, is found by the anchor alone
            assert (await judge(store, keys)).problem is None
        verdict = await judge(store, keys, anchors)
        assert verdict.problem is not None
    assert verdict.bad_line == 6
    assert "differs from its anchor" in verdict.problem


@pytest.mark.parametrize("left", [0, 4])
async def test_a_log_that_was_cut_off_is_found_by_its_anchor(
    store, engine, keys, tmp_path, left: int
) -> None:
    await fill(store, 6)
    append_anchor(tmp_path / "audit.anchor", await store.audit.head())
    anchors = read_anchor_file(tmp_path / "audit.anchor")
    assert (await judge(store, keys, anchors)).anchors == 1
    await drop_triggers(engine)
    await run_sql(engine, f"DELETE FROM audit WHERE id > {left}")
    verdict = await judge(store, keys, anchors)
    assert verdict.bad_line == 6
    assert f"the log ends at line {left}" in str(verdict.problem)


async def test_expired_lines_leave_a_chain_that_can_be_verified(
    store, engine, keys, tmp_path
) -> None:
    await fill(store, 6)
    append_anchor(tmp_path / "audit.anchor", replace(await store.audit.head(), line=6))
    assert await store.audit.expire(before=1003.25, at=5000.0) == 3
    assert await store.audit.expire(before=1003.25, at=5000.0) == 0
    await fill(store, 1, first=6)
    verdict = await judge(store, keys, read_anchor_file(tmp_path / "audit.anchor"))
    assert verdict.problem is None
    assert (verdict.lines, verdict.first, verdict.expired_through) == (5, 4, 3)
    with pytest.raises(DBAPIError, match="audit line"):
        await run_sql(engine, "DELETE FROM audit WHERE id = 4")
    # one line more than is said to have expired
    await drop_triggers(engine)
    await run_sql(engine, "DELETE FROM audit WHERE id = 4")
    verdict = await judge(store, keys)
    assert verdict.bad_line == 5
    assert "lines before it were removed" in str(verdict.problem)


async def test_all_lines_may_expire_again_and_again(store, keys) -> None:
    await fill(store, 4)
    assert await store.audit.expire(before=9000.0, at=9000.0) == 4
    # the line that said so expires, too
    assert await store.audit.expire(before=9500.0, at=9600.0) == 1
    await fill(store, 2, first=10)
    verdict = await judge(store, keys)
    assert verdict.problem is None
    assert (verdict.lines, verdict.expired_through) == (3, 5)


async def test_old_lines_are_chained_by_the_migration(database_url: str, keys) -> None:
    engine = create_async_engine(with_driver(database_url))
    async with engine.begin() as connection:
        await connection.run_sync(upgrade, "0006")
        for number in (1, 2, 5):
            await connection.execute(
                text(
                    "INSERT INTO audit (id, at, tenant, actor, action, receipt, counts) VALUES"
                    " (:id, 1.1, 'acme', 'anonymous', 'forget_face', 'r', '{\"faces\": 1}')"
                ),
                {"id": number},
            )
    await engine.dispose()
    store = await RecordStore.open(database_url, audit_keys=keys)
    try:
        rows = [row async for row in store.audit.rows()]
        assert [row["id"] for row in rows] == [1, 2, 5]
        content = {
            name: value for name, value in rows[0].items() if name not in ("hash", "prev")
        } | {"prev": "0" * 64}
        text_of_it = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert rows[0]["hash"] == hashlib.sha256(text_of_it.encode()).hexdigest()
        assert "no line has a hash with a key" in str((await judge(store, keys)).problem)
        await store.audit.add(a_line(0))
        verdict = await judge(store, keys)
        assert verdict.problem is None
        assert (verdict.lines, verdict.unkeyed, verdict.last) == (4, 3, 6)
    finally:
        await store.close()


async def actions_in(store: RecordStore) -> set[str]:
    return {row["action"] async for row in store.audit.rows()}


async def test_a_gateway_covers_lines_without_a_key(
    migrated_url: str, keys, tmp_path, caplog
) -> None:
    before = await RecordStore.open(migrated_url)
    await fill(before, 3)
    await before.close()
    store = await RecordStore.open(migrated_url, audit_keys=keys)
    settings = Settings(home=tmp_path, audit_anchor_file=tmp_path / "a", audit_retention_days=1)
    try:
        assert "no line has a hash with a key" in str((await judge(store, keys)).problem)
        async with BackgroundTasks() as tasks, watch_audit(settings, store.audit, tasks):
            async with asyncio.timeout(60):
                # the old lines are long over
                ours = {"chain_audit", "expire_audit"}
                while not (tmp_path / "a").exists() or await actions_in(store) - ours:
                    await asyncio.sleep(0.01)
        verdict = await judge(store, keys, read_anchor_file(tmp_path / "a"))
        assert verdict.problem is None
        assert verdict.anchors >= 1
        other = settings.model_copy(update={"audit_key_file": tmp_path / "other"})
        async with BackgroundTasks() as tasks, watch_audit(other, store.audit, tasks):
            async with asyncio.timeout(60):
                while "the file does not have" not in caplog.text:
                    await asyncio.sleep(0.01)
    finally:
        await store.close()


async def test_a_file_of_anchors_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"line": 1}\n')
    with pytest.raises(ConfigurationError, match="a:1 is no anchor"):
        read_anchor_file(tmp_path / "a")
    assert read_anchor_file(tmp_path / "none") == ()


async def test_the_tables_can_be_opened_again(migrated_url: str) -> None:
    """A second start runs no migration and finds its triggers."""
    database = await Database.open(migrated_url)
    await database.close()
