"""A gateway answers with what was sealed before, during and after a rotation of storage keys."""

import os
from pathlib import Path

from gateway.records.encryption import storage_key_file
from gateway.records.key_ring import KeyRing
from gateway.records.sealed_rows import KINDS
from gateway.settings import Settings
from tests.support.job_world import job_world
from tests.support.records import add_migrated_sqlite
from tools.commands.storage_keys import _rotate


async def test_a_running_gateway_follows_a_rotation(tmp_path: Path) -> None:
    file = tmp_path / "records.sqlite3"
    add_migrated_sqlite(file)
    settings = Settings(home=tmp_path)
    async with job_world(tmp_path, f"sqlite:///{file}") as world:
        job = await world.submit(4)
        assert await world.work(2) == 2
        before = await world.call("GET", f"/{job}/results")
        keys = storage_key_file(settings)
        first = KeyRing.load(keys).current_id
        assert await _rotate(settings, retire=False)
        rotated = await world.call("GET", f"/{job}/results")
        assert rotated["results"] == before["results"]
        assert rotated["results"][0]["result"]["faces"]
        # sealed by a process that runs since before
        assert await world.work(2) == 2
        (results,) = [kind for kind in KINDS if kind.name == "job results"]
        counts = await world.records.sealed.count(results)
        assert dict(counts) == {KeyRing.load(keys).current_id: 4}
        os.utime(keys, (1.0, 1.0))
        assert await _rotate(settings, retire=True)
        assert first not in KeyRing.load(keys).by_id
        after = await world.call("GET", f"/{job}/results")
        assert all(item["status"] == "ok" for item in after["results"])
