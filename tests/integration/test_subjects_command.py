"""`aurum subjects` against a gateway in this process: it asks before it exports or erases."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.collection_client import Embedder, enrol, found, make
from tests.support.command_line import Finished, run_in_process
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import serving


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(FakeInference(), Embedder(), home=tmp_path / "home") as session:
        yield session


async def subjects(
    client: aiohttp.ClientSession, folder: Path, *arguments: str, answer: str = ""
) -> Finished:
    url = ["--url", str(client._base_url).rstrip("/")]
    return await asyncio.to_thread(
        run_in_process,
        ["subjects", *arguments, *url],
        environment={"AURUM_HOME": str(folder / "own"), "PATH": "/usr/bin"},
        folder=folder,
        stdin=answer.encode(),
    )


async def world(client: aiohttp.ClientSession, folder: Path) -> tuple[str, str]:
    """Enrol a person in two collections; returns the one that has another person, and a photo."""
    people, guests = await make(client), await make(client, "guests")
    await enrol(
        client, people, 1, "ada", consent='{"reference": "f", "given_at": "2026-01-01T12:00:00Z"}'
    )
    await enrol(client, guests, 1, "lovelace")
    await enrol(client, people, 2, "bert")
    (folder / "ada.png").write_bytes(photo(seed=1, size=(300, 200)))
    return people, guests


async def test_erasing_asks_which_of_them(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    people, guests = await world(client, tmp_path)
    order = ("erase", "--photo", "ada.png")
    for answer in ("", "none\n", "7\n", "x\n", "0\n"):
        refused = await subjects(client, tmp_path, *order, answer=answer)
        assert refused.returncode == 1, refused
        assert "Receipt" not in refused.stdout
    assert (await found(client, people, 1), await found(client, guests, 1)) == (
        ["ada"],
        ["lovelace"],
    )
    shown = json.loads((await subjects(client, tmp_path, "find", *order[1:], "--json")).stdout)
    number = 1 + [each["collection"] for each in shown].index("people")
    erased = await subjects(client, tmp_path, *order, answer=f"{number}\n")
    assert erased.returncode == 0, erased
    assert "people: ada\n  1 faces, 1 vectors" in erased.stdout
    assert (await found(client, people, 1), await found(client, guests, 1)) == ([], ["lovelace"])
    rest = await subjects(
        client, tmp_path, *order, "--collection", "guests", "--yes", "--json", "--do-not-enrol"
    )
    document: dict[str, Any] = json.loads(rest.stdout)
    assert [each["subject"] for each in document["erased"]] == ["lovelace"]
    assert len(document["erased"][0]["do_not_enrol"]) == 1
    nobody = await subjects(client, tmp_path, *order, "--yes")
    assert (nobody.returncode, "nobody was found" in nobody.stderr) == (1, True)


async def test_a_package_is_for_the_owner_only(
    client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    await world(client, tmp_path)
    exported = await subjects(client, tmp_path, "export", "--name", "ada", "--yes")
    assert exported.returncode == 0, exported
    package = tmp_path / "person.zip"
    assert package.stat().st_mode & 0o077 == 0
    assert package.read_bytes().startswith(b"PK")


async def test_lists_are_kept_by_command(client: aiohttp.ClientSession, tmp_path: Path) -> None:
    await world(client, tmp_path)
    added = await subjects(client, tmp_path, "refuse", "people", "--photo", "ada.png")
    assert added.returncode == 0, added
    shown = await subjects(client, tmp_path, "refused", "people", "--json")
    (entry,) = json.loads(shown.stdout)
    assert entry["entry_id"] == added.stdout.strip()
    table = await subjects(client, tmp_path, "refused", "people")
    assert entry["reason"][:10] in table.stdout
    removed = await subjects(client, tmp_path, "allow", "people", entry["entry_id"])
    assert removed.returncode == 0, removed
    again = await subjects(client, tmp_path, "allow", "people", entry["entry_id"])
    assert (again.returncode, "no entry" in again.stderr) == (1, True)
    for wrong in (("find",), ("refuse", "people", "--name", "a", "--photo", "ada.png")):
        refused = await subjects(client, tmp_path, *wrong)
        assert (refused.returncode, "--name or --photo" in refused.stderr) == (1, True)
