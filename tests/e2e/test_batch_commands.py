"""Many photos from the command line: through the whole stack, and without it."""

import json

import pytest

from tests.support import photos
from tests.support.serving import aurum


def test_photos_are_enrolled_found_and_scored_alike_with_and_without_the_service(stack, tmp_path):
    people = tmp_path / "people"
    (people / "collins").mkdir(parents=True)
    (people / "nobody").mkdir()
    portrait = photos.PORTRAIT.read_bytes()
    (people / "collins" / "1.png").write_bytes(portrait)
    (people / "nobody" / "1.png").write_bytes(photos.blank())
    (tmp_path / "group.png").write_bytes(photos.group_photo())

    enrolled = aurum(stack.settings, "enrol", "batch", str(people), "--create")
    assert enrolled.returncode == 2, enrolled.stderr
    assert "1 enrolled, 1 refused (no_face 1)" in enrolled.stderr
    probes = [str(people / "collins"), str(tmp_path / "group.png")]
    found = aurum(stack.settings, "search", "batch", *probes, "--draw", str(tmp_path / "drawn"))
    assert found.returncode == 0, found.stderr
    lines = {line["input"]: line for line in map(json.loads, found.stdout.splitlines())}
    (face,) = lines[str(people / "collins" / "1.png")]["answer"]["faces"]
    assert face["matches"][0]["subject"] == "collins"
    assert len(lines[str(tmp_path / "group.png")]["answer"]["faces"]) == 6
    assert len(list((tmp_path / "drawn").rglob("*.jpg"))) == 2

    asked = aurum(stack.settings, "score", str(people))
    alone = aurum(stack.settings, "score", str(people), "--local")
    assert asked.returncode == alone.returncode == 0, alone.stderr
    by_service, by_itself = (
        {line["input"]: line for line in map(json.loads, done.stdout.splitlines())}
        for done in (asked, alone)
    )
    for name, line in by_service.items():
        own = by_itself[name]
        assert own["outcome"] == line["outcome"]
        if "answer" in line:
            (face,), (own_face,) = line["answer"]["faces"], own["answer"]["faces"]
            assert own_face["box"] == pytest.approx(face["box"], abs=0.1)
            assert own_face["score"] == pytest.approx(face["score"], abs=0.01)
            assert own["answer"]["models"] == line["answer"]["models"]
            assert (line["answer"]["engine"], own["answer"]["engine"]) == ("triton", "local")
