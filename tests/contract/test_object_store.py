"""Contract of the object store, in a folder and in a bucket of a real S3 server."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigurationError, JobsUnavailableError
from gateway.jobs.objects.base import ObjectMissingError, ObjectStore, object_key
from gateway.jobs.objects.factory import open_objects
from gateway.settings import Settings
from tests.support.object_server import KEY_ID, SECRET, ObjectServer, object_server

JOB, OTHER = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a10"


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture(params=["folder", "bucket"])
def chosen(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "folder":
        return Settings(home=tmp_path)
    running: ObjectServer = request.getfixturevalue("server")
    prefix = f"{tmp_path.parent.name}/{tmp_path.name}"
    return Settings(home=tmp_path, **running.settings(prefix))


@pytest.fixture
async def objects(chosen: Settings) -> AsyncIterator[ObjectStore]:
    async with open_objects(chosen) as opened:
        yield opened


async def test_bytes_come_back_until_they_are_deleted(objects: ObjectStore) -> None:
    keys = [object_key(JOB, index) for index in range(5)]
    bodies = [bytes([index]) * size for index, size in enumerate((0, 1, 255, 4096, 3 << 20))]
    await asyncio.gather(*(map(objects.put, keys, bodies)))
    await objects.flush(JOB)
    assert await asyncio.gather(*(map(objects.get, keys))) == bodies
    await objects.put(keys[1], b"replaced")
    assert await objects.get(keys[1]) == b"replaced"
    await objects.delete([keys[0], keys[2], object_key(JOB, 77)])
    await objects.delete([])
    for gone in (keys[0], keys[2], object_key(JOB, 77), object_key(OTHER, 1)):
        with pytest.raises(ObjectMissingError):
            await objects.get(gone)
    assert await objects.get(keys[3]) == bodies[3]


async def test_the_objects_of_a_job_go_together(objects: ObjectStore) -> None:
    assert JOB not in await objects.jobs()
    await objects.flush(JOB)
    await objects.delete_job(JOB)
    for job in (JOB, OTHER):
        await asyncio.gather(*(objects.put(object_key(job, i), b"x") for i in range(3)))
    assert {JOB, OTHER} <= set(await objects.jobs())
    await objects.delete_job(JOB)
    with pytest.raises(ObjectMissingError):
        await objects.get(object_key(JOB, 1))
    # the name of one job begins with that of the other
    assert await objects.get(object_key(OTHER, 1)) == b"x"


async def test_a_store_opened_again_finds_what_was_put(chosen: Settings) -> None:
    async with open_objects(chosen) as first:
        await first.put(object_key(JOB, 1), b"kept")
    async with open_objects(chosen) as second:
        assert await second.get(object_key(JOB, 1)) == b"kept"
        await second.health()


async def test_what_is_stored_is_sealed_under_its_key(chosen: Settings, tmp_path: Path) -> None:
    async with open_objects(chosen) as objects:
        await objects.put(object_key(JOB, 1), b"the bytes of a photo")
        stored = await raw(objects).get(object_key(JOB, 1))
        assert b"photo" not in stored
        # moved below another key, changed, or foreign
        await raw(objects).put(object_key(JOB, 2), stored)
        await raw(objects).put(object_key(JOB, 3), stored[:-1] + bytes([stored[-1] ^ 1]))
        await raw(objects).put(object_key(JOB, 4), b"the bytes of a photo")
        await raw(objects).put(object_key(JOB, 5), stored[:10])
        for index in (2, 3, 4, 5):
            with pytest.raises(ConfigurationError, match=object_key(JOB, index)):
                await objects.get(object_key(JOB, index))
    other_key = chosen.model_copy(update={"crop_key_file": tmp_path / "other.key"})
    async with open_objects(other_key) as objects:
        with pytest.raises(ConfigurationError, match="AURUM_CROP_KEY_FILE"):
            await objects.get(object_key(JOB, 1))


@pytest.mark.parametrize("key", ["../x/000001", "a/1", "a", "a/000001/x", "/000001", "a/../000001"])
async def test_a_text_that_is_no_key_reaches_no_store(objects: ObjectStore, key: str) -> None:
    for call in (objects.get(key), objects.put(key, b"x"), objects.delete([key])):
        with pytest.raises(ValueError, match="not the key"):
            await call
    for refused in (objects.delete_job("../jobs"), objects.delete_job("")):
        with pytest.raises(ValueError, match="not the id"):
            await refused


@pytest.mark.parametrize("broken", ["missing", "refused", "silent", "wrong secret", "no bucket"])
async def test_a_bucket_that_is_away_costs_its_deadline_only(
    server: ObjectServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    caplog.set_level(logging.DEBUG)
    async with away(server, broken) as changes:
        options = {**server.settings(), **changes}
        settings = Settings(home=tmp_path, object_store_timeout_seconds=0.5, **options)
        async with open_objects(settings) as objects:
            calls = [
                lambda: objects.health(),
                lambda: objects.get(object_key(JOB, 1)),
                lambda: objects.jobs(),
                lambda: objects.delete_job(JOB),
            ]
            if broken != "no bucket":
                calls += [lambda: objects.put(object_key(JOB, 1), b"x" * 100_000)]
            for call in calls:
                begun = time.monotonic()
                with pytest.raises(JobsUnavailableError) as failed:
                    await call()
                assert time.monotonic() - begun < 30
                assert failed.value.retry_after_seconds
                assert failed.value.__cause__ is None
                for text in (failed.value.detail, repr(failed.value), repr(objects)):
                    assert SECRET not in text
            shown = f"{raw(objects)!r} {vars(raw(objects))!r} {settings!r}"
            assert SECRET not in shown
    assert caplog.records
    assert SECRET not in caplog.text
    assert KEY_ID not in caplog.text


@asynccontextmanager
async def away(server: ObjectServer, broken: str) -> AsyncIterator[dict[str, Any]]:
    """Give settings with which the bucket cannot be used."""
    if broken == "silent":
        # accepts connections, and never answers
        silent = await asyncio.start_server(lambda _, __: asyncio.sleep(60), "127.0.0.1", 0)
        async with silent:
            port = silent.sockets[0].getsockname()[1]
            yield {"object_store_endpoint": f"http://127.0.0.1:{port}"}
        return
    yield {
        "missing": {"object_store_endpoint": "http://no-such-host.invalid:80"},
        "refused": {"object_store_endpoint": "http://127.0.0.1:1"},
        "wrong secret": {"object_store_secret": "wrong"},
        "no bucket": {"object_store_url": "s3://never-created"},
    }[broken]


def raw(objects: ObjectStore) -> ObjectStore:
    """The store below the sealing."""
    return objects._store  # type: ignore[attr-defined,no-any-return]
