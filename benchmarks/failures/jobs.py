"""Jobs of a few photos, created while components fail, and what became of each of their images."""

import asyncio
import base64
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

_IMAGES: Final = 6
_POLL_SECONDS: Final = 0.5
_PAGE: Final = 1000
BATCH: Final = "/api/ml/score/batch"
_ENDED: Final = frozenset({"done", "cancelled", "expired"})


@dataclass(slots=True)
class Ended:
    """What became of the images of jobs that were acknowledged.

    reasons: of those that failed, by code. lost: without a result although their job ended, or in
    a job that did not end. doubled: with more than one result.
    """

    accepted: int = 0
    done: int = 0
    lost: int = 0
    doubled: int = 0
    unfinished_jobs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def new_job(make_photo: Callable[[], bytes]) -> dict[str, Any]:
    """Make the body of a job of a few new photos."""
    photos = [base64.b64encode(make_photo()).decode() for _ in range(_IMAGES)]
    return {"images": [{"image": photo, "name": f"{n}.jpg"} for n, photo in enumerate(photos)]}


async def follow(
    client: aiohttp.ClientSession, jobs: Collection[str], *, patience_seconds: float
) -> Ended:
    """Wait until jobs end, however often asking fails, and count what became of their images."""
    until = time.monotonic() + patience_seconds
    ended = Ended()
    for job in jobs:
        shown = await _until_ended(client, job, until)
        ended.accepted += _IMAGES
        if shown is None:
            ended.unfinished_jobs += 1
            ended.lost += _IMAGES
            continue
        await count(client, shown, ended)
    return ended


async def count(client: aiohttp.ClientSession, job: dict[str, Any], into: Ended) -> None:
    """Read all results of a job that ended, and count them."""
    seen: Counter[int] = Counter()
    cursor: str | None = None
    while True:
        query = {"limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
        path = f"/api/ml/jobs/{job['job_id']}/results"
        async with client.get(path, params=query) as response:
            response.raise_for_status()
            page = await response.json()
        for item in page["results"]:
            if item["status"] == "ok":
                seen[item["index"]] += 1
                into.done += 1
            elif item["status"] == "error":
                seen[item["index"]] += 1
                into.reasons[item["error"]["code"]] += 1
        cursor = page["next_cursor"]
        if cursor is None:
            break
    into.lost += job["total"] - len(seen)
    into.doubled += sum(each - 1 for each in seen.values())
    # the counters of the job must agree with its results
    into.doubled += max(0, job["done"] + job["failed"] - len(seen))


async def _until_ended(
    client: aiohttp.ClientSession, job: str, until: float
) -> dict[str, Any] | None:
    while time.monotonic() < until:
        try:
            async with client.get(f"/api/ml/jobs/{job}") as response:
                if response.status == 200:
                    shown: dict[str, Any] = await response.json()
                    if shown["state"] in _ENDED:
                        return shown
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        await asyncio.sleep(_POLL_SECONDS)
    return None
