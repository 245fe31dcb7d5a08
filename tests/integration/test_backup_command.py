"""The commands `aurum backup create`, `list`, `verify` and `restore`."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.support.backups import fill, service, settings_of
from tests.support.command_line import run_in_process


async def test_the_command(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home")
    async with service(settings) as (_, made):
        await fill(made, 20)
    phrase = "correct horse battery"
    environment = {
        "PATH": "/usr/bin:/bin",
        "AURUM_HOME": str(tmp_path / "home"),
        "AURUM_SEAL_METADATA": "on",
        "AURUM_MODEL_REPOSITORY": str(tmp_path / "home/models"),
        "AURUM_MIN_FREE_DISK_MEGABYTES": "0",
        "AURUM_BACKUP_PASSPHRASE": phrase,
    }

    def aurum(*arguments: str, **more: str) -> Any:
        done = run_in_process(
            ["backup", *arguments], environment=environment | more, folder=tmp_path
        )
        assert phrase not in done.stdout + done.stderr
        return done

    def in_thread(*arguments: str, **more: str) -> Any:
        return asyncio.to_thread(aurum, *arguments, **more)

    refused = await in_thread("create", "backups", AURUM_BACKUP_PASSPHRASE_FILE="x")
    assert (refused.returncode, "two things encrypt" in refused.stderr) == (1, True)
    for _ in range(2):
        done = await in_thread("create", "backups", "--json", "--keep", "1")
        assert done.returncode == 0, done.stderr
    created = json.loads(done.stdout)
    assert (created["rows"]["faces"], len(created["deleted"])) == (20, 1)
    listed = json.loads((await in_thread("list", "backups", "--json")).stdout)
    assert [each["name"] for each in listed] == [created["name"]]
    # whole, to be copied
    assert created["name"] in (await in_thread("list", "backups")).stdout
    wrong = await in_thread("verify", "backups", AURUM_BACKUP_PASSPHRASE="another passphrase")
    assert "the passphrase is not that of the archive" in wrong.stderr
    whole = await in_thread("verify", "backups")
    assert (whole.returncode, "is whole" in whole.stdout) == (0, True)
    assert "there are no backups here" in (await in_thread("restore", "nothing")).stderr
    assert "the home is not empty" in (await in_thread("restore", "backups")).stderr
    done = await in_thread("restore", "backups", "--replace", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["searched"] == 20
