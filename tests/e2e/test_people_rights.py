"""A person's rights as an operator meets them: enrolled three times, exported, erased, refused."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.test_remembering import another_photo, ask, matches
from tests.support import photos
from tests.support.photos import portraits_in_the_wild
from tests.support.serving import Served, aurum, wait_until

CONSENT = {"reference": "form 4711", "given_at": "2026-01-01T12:00:00Z"}
COLLECTIONS = ("rights-staff", "rights-guests")
OURS = tuple(word for name in COLLECTIONS for word in ("--collection", name))
"""The stack is shared: other tests may have enrolled the same person elsewhere."""


@pytest.fixture
def collections(stack: Served) -> Iterator[tuple[str, str]]:
    """Two empty collections, gone at the end; the first one requires consent."""
    settings = ({"keep": "crop", "requires_consent": True}, {})
    for name, more in zip(COLLECTIONS, settings, strict=True):
        ask(stack, "POST", "/api/collections", status=201, json={"name": name, **more})
    staff, guests = (f"/api/collections/{name}" for name in COLLECTIONS)
    yield staff, guests
    for name in COLLECTIONS:
        requests.delete(f"{stack.url}/api/collections/{name}", timeout=60)


def cut(left: int) -> bytes:
    """The portrait as a photo of its own."""
    return photos.encode(photos.portrait().crop((left, 0, 512, 512)), "JPEG", quality=85)


def enrol(
    stack: Served, at: str, image: bytes, *, status: int = 201, **fields: str
) -> dict[str, Any]:
    sent = {"files": {"image": ("x", image)}, "data": {"quality": "off", **fields}}
    return ask(stack, "POST", f"{at}/faces", status=status, **sent)


def test_export_erase_and_stay_away(
    stack: Served, collections: tuple[str, str], tmp_path: Path
) -> None:
    staff, guests = collections
    stranger = next(data for _, data in portraits_in_the_wild(every=700, most=1))
    consent = json.dumps(CONSENT)
    assert enrol(stack, staff, cut(0), status=409, subject="eileen")["code"] == "consent_required"
    enrol(stack, staff, cut(0), subject="eileen", consent=consent, purpose="the door")
    enrol(stack, staff, stranger, subject="bert", consent=consent)
    enrol(stack, guests, cut(20), subject="E. Collins")
    job = ask(
        stack,
        "POST",
        "/api/ml/score/batch",
        status=202,
        params={
            "operation": "enrol",
            "collection": COLLECTIONS[0],
            "subject_from": "name",
            "quality": "off",
        },
        files=[("images", ("eileen_2.jpg", cut(40)))],
    )
    path = f"/api/ml/jobs/{job['job_id']}"

    def is_done() -> bool:
        return bool(ask(stack, "GET", path, status=200)["state"] == "done")

    assert wait_until(is_done, timeout_seconds=120)
    (result,) = ask(stack, "GET", f"{path}/results", status=200)["results"]
    assert result["result"]["faces"][0]["subject"] == "eileen"

    probe = tmp_path / "probe.jpg"
    probe.write_bytes(another_photo())
    found = aurum(stack.settings, "subjects", "find", "--photo", str(probe), *OURS, "--json")
    assert found.returncode == 0, found.stderr
    candidates = json.loads(found.stdout)
    here = {(each["collection"], each["subject"]) for each in candidates}
    assert here == {("rights-staff", "eileen"), ("rights-guests", "E. Collins")}
    assert all(each["similarity"] > 0.5 for each in candidates)

    package = tmp_path / "eileen.zip"
    chosen = ("--photo", str(probe), *OURS, "--yes")
    exported = aurum(stack.settings, "subjects", "export", *chosen, "--output", str(package))
    assert exported.returncode == 0, exported.stderr
    with zipfile.ZipFile(package) as archive:
        document = json.loads(archive.read("person.json"))
        assert b"the door" in archive.read("index.html")
        pictures = [name for name in archive.namelist() if name.startswith("crops/")]
    stored = {each["collection"]: each for each in document["collections"]}
    assert stored["rights-staff"]["record"]["consent"]["reference"] == "form 4711"
    assert len(stored["rights-staff"]["faces"]) == len(pictures) == 2
    # jobs of other tests may have had the same photo
    images = {(each["job_id"], each["name"]) for each in stored["rights-staff"]["job_images"]}
    assert (job["job_id"], "eileen_2.jpg") in images

    # without an answer nothing is deleted
    asked = aurum(stack.settings, "subjects", "erase", "--photo", str(probe), *OURS)
    assert asked.returncode == 1
    assert len(matches(stack, staff, another_photo())) == 1
    receipt = tmp_path / "receipt.json"
    more = ("--do-not-enrol", "--reason", "asked by letter", "--receipt", str(receipt))
    erased = aurum(stack.settings, "subjects", "erase", *chosen, *more)
    assert erased.returncode == 0, erased.stderr
    assert "What remains:" in erased.stdout
    written = {each["collection"]: each for each in json.loads(receipt.read_text())["erased"]}
    assert (written["rights-staff"]["faces"], written["rights-guests"]["faces"]) == (2, 1)
    assert written["rights-staff"]["crops"] == 2
    assert written["rights-staff"]["job_results"] >= 1

    for at in (staff, guests):
        assert matches(stack, at, another_photo()) == []
        problem = enrol(stack, at, another_photo(), status=409, subject="x", consent=consent)
        assert problem["code"] == "enrolment_refused"
    assert matches(stack, staff, stranger) == ["bert"]
    (result,) = ask(stack, "GET", f"{path}/results", status=200)["results"]
    assert (result["name"], result["error"]["code"]) == ("image-0", "not_found")
    nobody = aurum(stack.settings, "subjects", "find", "--name", "eileen", *OURS)
    assert (nobody.returncode, "nobody was found" in nobody.stderr) == (1, True)
    # the person may change their mind
    listed = aurum(stack.settings, "subjects", "refused", "rights-guests", "--json")
    (entry,) = json.loads(listed.stdout)
    assert entry["reason"] == "asked by letter"
    allowed = aurum(stack.settings, "subjects", "allow", "rights-guests", entry["entry_id"])
    assert allowed.returncode == 0, allowed.stderr
    enrol(stack, guests, another_photo(), subject="eileen")
