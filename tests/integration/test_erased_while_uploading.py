"""People who are erased while a job with their photos arrives, over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.collection_client import Embedder, call, enrol, make
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import serving
from tests.support.upload_world import tarred

ARRIVING = "/api/ml/jobs?state=receiving"
TAR = {"Content-Type": "application/x-tar"}
PHOTOS = {"ada/1.png": photo(seed=1), "bert/1.png": photo(seed=2)}


@pytest.mark.parametrize("enrols", [False, True])
async def test_no_worker_gets_the_photos(tmp_path: Path, enrols: bool) -> None:
    async with serving(FakeInference(), Embedder(), home=tmp_path) as client:
        people = await make(client)
        await enrol(client, people, 1, "ada")
        erased: dict[str, Any] = {}

        async def body() -> AsyncIterator[bytes]:
            archive = tarred(*PHOTOS.items())
            yield archive[:4096]
            while not (await call(client, "GET", ARRIVING, status=200))["jobs"]:
                await asyncio.sleep(0.01)
            named = {"people": [{"collection": "people", "subject": "ada"}]}
            erased.update(await call(client, "POST", "/api/subjects/erase", status=200, json=named))
            yield archive[4096:]

        query = "?operation=enrol&collection=people&subject_from=folder" if enrols else ""
        sent = {"data": body(), "headers": TAR}
        job = await call(client, "POST", f"/api/ml/score/batch{query}", status=202, **sent)
        assert (job["total"], job["failed"]) == (2, 1)
        path = f"/api/ml/jobs/{job['job_id']}/results"
        results = (await call(client, "GET", path, status=200))["results"]
        assert [(each["name"], each.get("error", {}).get("code")) for each in results] == [
            ("image-0", "not_found"),
            ("bert/1.png", None),
        ]
        # what is left of the folder: the photo of the other one
        assert len(list((tmp_path / "jobs" / job["job_id"]).iterdir())) == 1
        said = {each["what"]: each["why"] for each in erased["remains"]}
        assert "when their upload ends" in said["images of jobs that were being uploaded just then"]
        # what cannot be known is said
        assert "bytes" in said["other images of the person in jobs that do not name them"]
