"""`aurum score`, `enrol` and `search` against a gateway: answers, resuming, exit statuses."""

import asyncio
import json
import os
import signal
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from gateway.errors import InferenceUnavailableError
from gateway.types import Quality
from tests.support import fake_inference
from tests.support.collection_client import Embedder, call
from tests.support.command_line import PYTHONPATH, Finished, run_in_process
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import serving

POOR = Quality(size=20, sharpness=0.05, brightness=0.5, yaw=0, pitch=0, roll=0)


class Place:
    """A folder with a gateway beside it."""

    def __init__(self, folder: Path, inference: FakeInference, client: aiohttp.ClientSession):
        self.folder = folder
        self.inference = inference
        self.client = client

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AURUM_")}
        base = self.client._base_url
        assert base is not None
        return {**clean, "AURUM_PORT": str(base.port), "AURUM_HOME": str(self.folder / "home")}

    def add(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def aurum(self, *arguments: str, stdin: bytes = b"") -> Finished:
        return await asyncio.to_thread(
            run_in_process,
            arguments,
            environment=self.environment,
            folder=self.folder,
            stdin=stdin,
        )

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tools", *arguments),
            env={**self.environment, "PYTHONPATH": PYTHONPATH},
            cwd=self.folder,
            stderr=asyncio.subprocess.PIPE,
        )

    def lines(self, name: str = "out.ndjson") -> list[dict[str, object]]:
        return [json.loads(text) for text in (self.folder / name).read_text().splitlines()]


@pytest.fixture
async def place(tmp_path: Path):
    inference = FakeInference()
    home = tmp_path / "served"
    home.mkdir()
    async with serving(inference, Embedder(), home=home) as client:
        yield Place(tmp_path, inference, client)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_folder_is_scored(place):
    place.add("in/two.png", photo(faces=2, seed=5))
    place.add("in/none.png", photo(faces=0))
    place.add("in/notes.txt", b"hello")
    done = await place.aurum("score", "in", "--output", "out.ndjson")
    assert done.returncode == 0, done.stderr
    assert "2 photos: 1 answered, 1 without a face, 1 skipped" in done.stderr
    none, two = sorted(place.lines(), key=lambda line: line["input"])
    assert (none["outcome"], none["error"]["code"]) == ("no_face", "no_face")
    assert two["sha256"] == two["answer"]["image"]["sha256"]
    assert [face["score"] for face in two["answer"]["faces"]] == [1.5, 2.5]


async def test_inputs_that_fail_are_listed_and_the_others_answered(place):
    place.add("in/broken.jpg", b"no image")
    place.add("in/good.png", photo())
    done = await place.aurum("score", "in", "in/good.png", "--output", "out.ndjson")
    assert done.returncode == 2
    assert "failed: in/broken.jpg: unsupported_media_type: " in done.stderr
    assert "2 photos: 1 answered, 1 failed (unsupported_media_type 1)" in done.stderr
    assert Counter(line["outcome"] for line in place.lines()) == {"answered": 1, "failed": 1}


async def test_options_reach_the_service(place):
    place.add("a.png", photo(faces=3))
    arguments = ("--max-faces", "2", "--detail", "high", "--min-confidence", "0.7")
    done = await place.aurum("score", "a.png", *arguments)
    assert len(json.loads(done.stdout)["answer"]["faces"]) == 2
    assert place.inference.looks[0].detail == "high"


async def test_standard_input_and_archives(place):
    one = await place.aurum("score", "-", stdin=photo(seed=3))
    assert json.loads(one.stdout)["answer"]["faces"][0]["score"] == 1.3
    place.add("b.png", photo(seed=2))
    with zipfile.ZipFile(place.folder / "a.zip", "w") as archive:
        archive.writestr("x/1.png", photo(seed=1))
        archive.writestr("../2.png", photo(seed=1))
    listed = await place.aurum(
        *("score", "-", "--from-list", "--format", "csv", "--parallel", "1"),
        stdin=b"b.png\na.zip\n",
    )
    assert listed.returncode == 2
    assert [row.split(",")[0] for row in listed.stdout.split()[1:3]] == ["b.png", "a.zip/x/1.png"]
    assert "failed: a.zip/../2.png: unreadable: has a path that leads out" in listed.stderr


async def test_so_many_requests_at_a_time_and_no_more(place):
    for number in range(9):
        place.add(f"in/{number}.png", photo(seed=number))
    place.inference.seconds = 0.1
    done = await place.aurum("score", "in", "--parallel", "3", "--format", "table")
    assert done.returncode == 0
    assert place.inference.most_active == 3
    assert [name for name in done.stdout.split() if name.endswith(".png")] == [
        f"in/{number}.png" for number in range(9)
    ]


async def test_what_was_answered_is_not_asked_again(place):
    for number in range(3):
        place.add(f"in/{number}.png", photo(seed=number))
    place.add("in/broken.jpg", b"no image")
    arguments = ("score", "in", "--output", "out.ndjson")
    assert (await place.aurum(*arguments)).returncode == 2
    assert "out.ndjson exists; --resume goes on with it" in (await place.aurum(*arguments)).stderr
    assert len(place.inference.needs) == 3
    # one is another picture now, one is repaired, one is new
    for name, seed in (("0.png", 7), ("broken.jpg", 8), ("3.png", 9)):
        place.add(f"in/{name}", photo(seed=seed))
    done = await place.aurum(*arguments, "--resume", "--html", "sheet.html", "--draw", "drawn")
    assert "5 photos: 3 answered, 2 answered by an earlier run" in done.stderr
    assert done.returncode == 0
    assert len(place.inference.needs) == 6
    assert len({(line["input"], line["sha256"]) for line in place.lines()}) == 6
    # pictures are made of all answers
    assert (place.folder / "sheet.html").read_text().count("<figure") == 5
    assert len(list((place.folder / "drawn").rglob("*.jpg"))) == 5


async def test_a_killed_command_loses_and_doubles_nothing(place):
    for number in range(40):
        place.add(f"in/{number}.png", photo(seed=number))
    place.inference.seconds = 0.05
    arguments = ("score", "in", "--output", "out.ndjson", "--parallel", "4")
    out = place.folder / "out.ndjson"
    process = await place.start(*arguments)
    await until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 8)
    process.kill()
    await process.wait()
    kept = out.read_bytes().count(b"\n")
    assert 8 <= kept < 40
    asked = len(place.inference.needs)
    # no more were asked than answered and in flight
    assert asked <= kept + 4
    done = await place.aurum(*arguments, "--resume")
    assert done.returncode == 0
    assert f"{kept} answered by an earlier run" in done.stderr
    assert len(place.inference.needs) == asked + 40 - kept
    assert Counter(line["input"] for line in place.lines()) == {
        f"in/{number}.png": 1 for number in range(40)
    }


async def test_ctrl_c_finishes_what_was_begun_and_says_how_to_go_on(place):
    for number in range(40):
        place.add(f"in/{number}.png", photo(seed=number))
    place.inference.seconds = 0.2
    out = place.folder / "out.ndjson"
    process = await place.start("score", "in", "--output", "out.ndjson", "--parallel", "4")
    await until(lambda: out.exists() and b"\n" in out.read_bytes())
    process.send_signal(signal.SIGINT)
    _, text = await process.communicate()
    assert process.returncode == 130
    assert b"the same command with --resume goes on with out.ndjson" in text
    assert b"Traceback" not in text
    assert place.inference.cancelled == 0
    assert len(place.lines()) == len(place.inference.needs) < 40


async def test_a_busy_service_is_asked_again(place):
    for number in range(3):
        place.add(f"in/{number}.png", photo(seed=number))
    place.inference.error = InferenceUnavailableError("busy", retry_after_seconds=1)
    running = asyncio.create_task(place.aurum("score", "in", "--output", "out.ndjson"))
    await place.inference.started.wait()
    await until(lambda: len(place.inference.needs) >= 3)
    place.inference.error = None
    done = await running
    assert done.returncode == 0, done.stderr
    assert [line["outcome"] for line in place.lines()] == ["answered"] * 3


async def test_enrolling_is_repeatable(place, monkeypatch):
    for name, seed in (("ada/1.png", 1), ("ada/2.png", 2), ("bob/1.png", 3)):
        place.add(f"in/{name}", photo(seed=seed))
    place.add("in/eve/1.png", photo(faces=0))
    refused = await place.aurum("enrol", "crew", "in")
    assert (refused.returncode, "there is no collection crew" in refused.stderr) == (1, True)
    first = await place.aurum("enrol", "crew", "in", "--create", "--output", "out.ndjson")
    assert first.returncode == 2
    assert "refused: in/eve/1.png: no_face: " in first.stderr
    assert "4 photos: 3 enrolled, 1 refused (no_face 1)" in first.stderr
    assert {line["subject"] for line in place.lines()} == {"ada", "bob", "eve"}
    again = await place.aurum("enrol", "crew", "in", "--create")
    assert "4 photos: 3 already there, 1 refused (no_face 1)" in again.stderr
    assert (await call(place.client, "GET", "/api/collections/crew", status=200))["faces"] == 3
    # forgotten since: the key of the first request must not stand in the way
    await call(place.client, "DELETE", "/api/collections/crew/subjects/bob", status=200)
    after = await place.aurum("enrol", "crew", "in")
    assert "4 photos: 1 enrolled, 2 already there, 1 refused" in after.stderr
    place.add("in/dim/1.png", photo(seed=6))
    monkeypatch.setattr(fake_inference, "GOOD", POOR)
    poor = await place.aurum("enrol", "crew", "in/dim")
    assert "1 photo: 1 refused (low_quality 1)" in poor.stderr
    assert (await place.aurum("enrol", "crew", "in/dim", "--quality", "off")).returncode == 0


async def test_a_table_names_subjects(place):
    place.add("in/1.png", photo(seed=1))
    place.add("in/2.png", photo(seed=2))
    place.add("people.csv", b"path,subject,display_name\nin/1.png,a/b,Ada Lovelace\n")
    arguments = ("--subject-from", "csv", "--csv", "people.csv", "--create")
    done = await place.aurum("enrol", "crew", "in", *arguments)
    assert done.returncode == 2
    assert "refused: in/2.png: no_subject: people.csv has no row for it" in done.stderr
    found = await call(place.client, "GET", "/api/collections/crew/subjects/a%2Fb", status=200)
    assert found["display_name"] == "Ada Lovelace"
    by_name = await place.aurum("enrol", "crew", "in/2.png", "--subject-from", "name")
    assert "no_subject: its name has nothing but a number" in by_name.stderr


async def test_each_face_is_searched_for(place):
    for name, seed in (("ada", 1), ("bob", 2)):
        place.add(f"in/{name}/1.png", photo(seed=seed))
    assert (await place.aurum("enrol", "crew", "in", "--create")).returncode == 0
    # the faces of ada, bob and a stranger
    place.add("probe.png", photo(faces=3, seed=1))
    done = await place.aurum("search", "crew", "probe.png", "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows = [row.split(",")[3:7] for row in done.stdout.splitlines()[1:]]
    assert [(row[1], row[3]) for row in rows] == [("ada", "1"), ("bob", "1"), ("", "0")]
    wide = await place.aurum(
        *("search", "crew", "probe.png", "--faces", "largest"),
        *("--limit", "1", "--threshold", "-1", "--html", "s.html"),
    )
    (face,) = json.loads(wide.stdout)["answer"]["faces"]
    assert [match["subject"] for match in face["matches"]] == ["ada"]
    assert "ada 1.00" in (place.folder / "s.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["score", "nothing.png"], 1, "nothing.png does not exist"),
        (["score", "notes.txt"], 1, "no image was found"),
        (["score", "a.png", "--nope"], 1, "No such option"),
        (["score", "a.png", "--parallel", "0"], 1, "--parallel"),
        (["score"], 1, "Missing argument"),
        (["score", "a.png", "--local", "--url", "http://x"], 1, "leave out --url"),
        (["score", "a.png", "--resume"], 1, "--resume needs --output"),
        (["score", "a.png", "--url", "x"], 1, "does not begin with http"),
        (["score", "a.png", "--url", "http://127.0.0.1:9"], 3, "no gateway at"),
        (["search", "nobody", "a.png"], 1, "there is no collection nobody"),
        (["enrol", "a b", "a.png", "--create"], 1, "invalid_request"),
        (["enrol", "crew", "a.png", "--local"], 1, "No such option"),
        (["score", "--help"], 0, ""),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
async def test_exit_statuses(place, arguments, status, reason):
    place.add("a.png", photo())
    place.add("notes.txt", b"hello")
    done = await place.aurum(*arguments)
    assert (done.returncode, reason in done.stderr) == (status, True), done.stderr
    assert place.inference.needs == []


async def test_a_second_ctrl_c_does_not_wait(place):
    for number in range(9):
        place.add(f"in/{number}.png", photo(seed=number))
    place.inference.error = InferenceUnavailableError("busy", retry_after_seconds=60)
    process = await place.start("score", "in", "--output", "out.ndjson", "--parallel", "4")
    await until(lambda: len(place.inference.needs) >= 1)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"once more ends at once" in await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, text = await process.communicate()
    assert process.returncode == 130
    assert b"--resume goes on with out.ndjson" in text
    assert b"Traceback" not in text
