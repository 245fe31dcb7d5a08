"""A worker in a process of its own, which a test kills: `python -m tests.support.job_process`.

Claims images and ends them until none is left; prints a line for each end that was accepted.
"""

import asyncio
import random
import sys

from gateway.records.job_types import LeasedItem
from gateway.records.store import RecordStore
from tests.support.job_records import well

SLICE = 8


async def work(url: str, name: str, lease_seconds: float) -> None:
    """Work under a name until all jobs have ended."""
    store = await RecordStore.open(url)
    queue = store.job_queue

    async def end(item: LeasedItem) -> None:
        # in any order, so that a kill finds slices of which some images have ended
        await asyncio.sleep(random.random() / 50)
        if await queue.finish(item, well(f"{name} {item.index}")):
            # one write: the file is shared, and a kill must not leave half a line
            sys.stdout.write(f"{item.job.id} {item.index}\n")
            sys.stdout.flush()

    try:
        await queue.release_worker(name)
        while (await store.jobs.depth()).jobs.keys() & {"queued", "running"}:
            items = await queue.claim(
                name, operations=["score"], limit=SLICE, lease_seconds=lease_seconds
            )
            if not items:
                await asyncio.sleep(0.1)
            await asyncio.gather(*(end(item) for item in items))
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], float(sys.argv[3])))
