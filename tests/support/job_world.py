"""Jobs of a gateway whose images the test ends, as a worker of another process would."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from gateway.api.auth import Permission
from gateway.collections.base import new_id
from gateway.errors import ForbiddenError
from gateway.jobs.results import seal_result
from gateway.records import clock
from gateway.records.encryption import load_cipher
from gateway.records.job_types import (
    ItemOutcome,
    JobRecord,
    LeasedItem,
    NewItem,
    Operation,
    WorkerRecord,
)
from gateway.records.store import RecordStore
from gateway.settings import Settings
from gateway.types import DEFAULT_TENANT, Caller
from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference
from tests.support.gateway_server import serving

WORKER = "w1"
LEASE_SECONDS = 60.0


def answer(index: int, **more: Any) -> dict[str, Any]:
    """An answer of `/api/ml/detect` with one face, as far as readers of results look at it."""
    face = {
        "box": [10.0, 20.0, 30.0, 40.5],
        "landmarks": [[1.0, 2.0]] * 5,
        "confidence": 0.9,
        "quality": {"acceptable": True},
    } | more
    return {"request_id": f"r{index}", "faces": [face], "faces_found": 2}


class Tenants:
    """Takes the tenant from the header `X-Tenant`; `X-Lacks` names a permission not granted."""

    async def authorize(self, headers: Mapping[str, str], permission: Permission) -> Caller:
        """See `Authorizer.authorize`."""
        if headers.get("X-Lacks") == permission:
            raise ForbiddenError(f"this key lacks {permission}")
        return Caller(tenant=headers.get("X-Tenant", DEFAULT_TENANT), name="tester")


class JobWorld:
    """A gateway, and the records that it shares with workers."""

    def __init__(self, client: ClientSession, records: RecordStore, settings: Settings) -> None:
        self.client = client
        self.records = records
        self.cipher = load_cipher(settings)

    async def submit(
        self,
        images: int = 3,
        *,
        operation: Operation = "detect",
        tenant: str = DEFAULT_TENANT,
        names: list[str] | None = None,
        age_seconds: float = 0.0,
        **fields: Any,
    ) -> str:
        """Make a job as an upload does, without its objects; returns its id."""
        job = JobRecord(
            id=new_id(),
            tenant=tenant,
            actor="tester",
            operation=operation,
            created_at=clock.now() - age_seconds,
            **fields,
        )
        await self.records.jobs.create(job)
        items = [
            NewItem(index, f"{index}.jpg" if names is None else names[index], "0" * 64, "k", 1)
            for index in range(images)
        ]
        await self.records.jobs.add_items(job.id, items)
        await self.records.jobs.submit(job.id)
        return job.id

    async def claim(self, limit: int = 1000) -> tuple[LeasedItem, ...]:
        """Take images as a worker."""
        return await self.records.job_queue.claim(
            WORKER,
            operations=("score", "detect", "embed", "enrol"),
            limit=limit,
            lease_seconds=LEASE_SECONDS,
        )

    async def finish(self, item: LeasedItem, result: dict[str, Any] | None = None) -> None:
        """End an image well."""
        text = json.dumps(answer(item.index) if result is None else result).encode()
        sealed = seal_result(self.cipher, item.job.id, item.index, text)
        assert await self.records.job_queue.finish(item, ItemOutcome("ok", sealed))

    async def fail(self, item: LeasedItem, code: str = "no_face", detail: str = "no face") -> None:
        """End an image with an error."""
        outcome = ItemOutcome("error", None, code, detail)
        assert await self.records.job_queue.finish(item, outcome)

    async def work(self, limit: int = 1000, *, failing: tuple[int, ...] = ()) -> int:
        """Take images and end them; those of `failing` with an error. Returns their number."""
        items = await self.claim(limit)
        # together: they share transactions, and end in this order all the same
        await asyncio.gather(
            *(self.fail(item) if item.index in failing else self.finish(item) for item in items)
        )
        return len(items)

    async def beat(self, name: str = WORKER, *, started_at: float = 1.0, **counters: int) -> None:
        """Show a worker that is running."""
        worker = WorkerRecord(
            name=name,
            host="here",
            pid=1,
            started_at=started_at,
            seen_at=clock.now(),
            concurrency=4,
            counters=counters,
        )
        await self.records.job_queue.beat(worker)

    async def call(
        self, method: str, path: str, *, status: int = 200, **more: Any
    ) -> dict[str, Any]:
        """Call a route below `/api/ml/jobs`; returns the JSON answer."""
        async with self.client.request(method, f"/api/ml/jobs{path}", **more) as response:
            body: dict[str, Any] = await response.json(content_type=None)
            assert response.status == status, body
            return body

    async def metric(self, name: str) -> float:
        """Read a value of `/metrics`, NaN if it is not there yet; name: with its labels."""
        async with self.client.get("/metrics") as response:
            text = await response.text()
        values = [
            line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{name} ")
        ]
        assert len(values) <= 1, name
        return float(values[0]) if values else math.nan

    async def read(self, path: str, **more: Any) -> tuple[str, Mapping[str, str]]:
        """Read text below `/api/ml/jobs`; returns it with the headers."""
        async with self.client.get(f"/api/ml/jobs{path}", **more) as response:
            assert response.status == 200, await response.text()
            return await response.text(), response.headers


@asynccontextmanager
async def job_world(home: Path, url: str, **settings: Any) -> AsyncIterator[JobWorld]:
    """Serve with the records of this URL, and open them a second time for the test."""
    chosen = {"home": home, **settings}
    if not url.startswith("sqlite"):
        chosen["database_url"] = url
    async with serving(FakeInference(), Embedder(), authorizer=Tenants(), **chosen) as client:
        records = await RecordStore.open(url)
        try:
            yield JobWorld(client, records, Settings(**chosen))
        finally:
            await records.close()
