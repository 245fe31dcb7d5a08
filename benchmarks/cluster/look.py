"""What became of all that was acknowledged, looked up after a run."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from aurum_client import AsyncAurumClient

from benchmarks.cluster.callers import COLLECTION, JOB_IMAGES, embedding_of
from benchmarks.cluster.report import Kept
from benchmarks.failures.load import SPACE

_JOBS_SECONDS: Final = 90.0
_AT_ONCE: Final = 4


async def look(url: str, key: str, lines: Sequence[dict[str, Any]]) -> Kept:
    """Look for every face and every image of a job.

    A face is kept where the collection lists it and a search for it finds it.
    """
    kept = Kept(missed_searches=sum(line["kind"] == "missed" for line in lines))
    faces = [line for line in lines if line["kind"] == "face"]
    jobs = [line["job"] for line in lines if line["kind"] == "job"]
    async with AsyncAurumClient(url, api_key=key) as client:
        listed: Counter[str] = Counter()
        ids = set()
        async for face in client.faces(COLLECTION, page_size=500):
            listed[face.subject] += 1
            ids.add(face.face_id)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def is_found(line: dict[str, Any]) -> bool:
            subject = line["subject"]
            async with slots:
                found = await client.search_embedding(
                    COLLECTION, embedding_of(subject), space=SPACE, subject=subject
                )
            matches = {match.face_id for face in found.faces for match in face.matches}
            return line["face"] in matches & ids

        kept.faces = len(faces)
        found = await asyncio.gather(*map(is_found, faces))
        lost = [
            face["subject"] for face, is_there in zip(faces, found, strict=True) if not is_there
        ]
        if lost:
            print("lost:", ", ".join(lost), flush=True)
        kept.lost_faces = len(lost)
        kept.doubled_faces = sum(count > 1 for count in listed.values())
        for job in jobs:
            await _count(client, job, kept)
    return kept


async def _count(client: AsyncAurumClient, job: str, into: Kept) -> None:
    into.images += JOB_IMAGES
    shown = await client.jobs.wait(job, timeout=_JOBS_SECONDS)
    ended: Counter[int] = Counter()
    async for item in client.jobs.results(job):
        if item.status in ("ok", "error"):
            ended[item.index] += 1
            into.done_images += item.status == "ok"
            into.failed_images += item.status == "error"
    into.lost_images += JOB_IMAGES - len(ended)
    into.doubled_images += sum(count - 1 for count in ended.values())
    # the counters of the job must agree with its results
    into.doubled_images += max(0, shown.done + shown.failed - len(ended))
