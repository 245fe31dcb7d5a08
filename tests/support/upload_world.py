"""A gateway to which tests upload jobs, and what they upload."""

import asyncio
import io
import tarfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import ClientSession, FormData

from gateway.api.auth import Permission
from gateway.errors import ForbiddenError
from gateway.jobs.objects.factory import open_objects
from gateway.records.job_types import ItemOutcome
from gateway.records.store import RecordStore
from gateway.settings import Settings
from gateway.types import DEFAULT_TENANT, Caller
from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import LIMIT, PROBLEM_KEYS, serving

ROUTE = "/api/ml/score/batch"
ONE, TWO, THREE = photo(seed=1), photo(seed=2), photo(seed=3)
TOO_LARGE = ONE + bytes(LIMIT)
WORKER = "w1"


MEMBERS = [("a/1.png", ONE), ("notes.txt", b"hello"), (".DS_Store", b"x"), ("b/2.png", TWO)]


PARTS = [
    b'--b\r\nContent-Disposition: form-data; name="images"; filename="%d"\r\n\r\n%b\r\n'
    % (i, ONE + bytes(90_000))
    for i in range(40)
]


class MayNotEnrol:
    """Grants everything but `enrol` to a caller with the header `X-Reader`."""

    async def authorize(self, headers: Mapping[str, str], permission: Permission) -> Caller:
        if permission is Permission.ENROL and "X-Reader" in headers:
            raise ForbiddenError("this key may not enrol")
        return Caller(tenant=headers.get("X-Tenant", DEFAULT_TENANT), name="tester")


class World:
    """A gateway, its records and its store of images."""

    def __init__(self, client: ClientSession, home: Path, records: RecordStore) -> None:
        self.client = client
        self.home = home
        self.records = records

    async def send(
        self, data: Any = None, query: str = "", *, status: int = 202, **more: Any
    ) -> dict[str, Any]:
        """Upload; returns the JSON of the answer."""
        async with self.client.post(ROUTE + query, data=data, **more) as response:
            body: dict[str, Any] = await response.json(content_type=None)
            assert response.status == status, body
            if status < 300:
                assert response.headers["Location"] == f"/api/ml/jobs/{body['job_id']}"
            else:
                assert set(body) == PROBLEM_KEYS
            return body

    async def refused(self, status: int, code: str, *given: Any, **more: Any) -> str:
        """Upload what is refused; returns the detail. Nothing stays of it."""
        before = self.left()
        body = await self.send(*given, status=status, **more)
        assert body["code"] == code
        await self.nothing_new(before)
        return str(body["detail"])

    async def nothing_new(self, before: tuple[set[str], int]) -> None:
        """Wait until neither images, nor items, nor jobs being received are left."""
        for _ in range(200):
            if self.left() == before and not await self.records.jobs.page(
                DEFAULT_TENANT, limit=9, states=["receiving"]
            ):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(self.left())

    def left(self) -> tuple[set[str], int]:
        """Ids of jobs with images, and the number of files in the scratch folder."""
        jobs, scratch = self.home / "jobs", self.home / "scratch"
        return (
            {each.name for each in jobs.iterdir()} if jobs.is_dir() else set(),
            len(list(scratch.iterdir())) if scratch.is_dir() else 0,
        )

    async def items(self, job: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
        """Name, status and error code of each image."""
        found = await self.records.jobs.results(job["job_id"], limit=1000)
        return [(each.name, each.status, each.code) for each in found]

    async def stored(self, job: Mapping[str, Any]) -> list[bytes]:
        """The images that workers get, in their order."""
        settings = Settings(home=self.home)
        async with open_objects(settings) as objects:
            keys = sorted(
                f"{job['job_id']}/{file.name}"
                for file in (self.home / "jobs" / job["job_id"]).iterdir()
            )
            return [await objects.get(key) for key in keys]

    async def work(self) -> None:
        """End every image that is waiting, as a worker would."""
        while leased := await self.records.job_queue.claim(
            WORKER, operations=["score", "detect", "embed", "enrol"], limit=8, lease_seconds=60
        ):
            for item in leased:
                await self.records.job_queue.finish(item, ItemOutcome("error", None, "no_face", ""))


@asynccontextmanager
async def world(home: Path, **settings: Any) -> AsyncIterator[World]:
    options = {"max_image_bytes": LIMIT, "job_max_images": 20, **settings}
    async with serving(
        FakeInference(), Embedder(), authorizer=MayNotEnrol(), home=home, **options
    ) as client:
        records = await RecordStore.open(f"sqlite:///{home / 'records.sqlite3'}")
        try:
            yield World(client, home, records)
        finally:
            await records.close()


def form(*files: tuple[str | None, bytes], field: str = "images") -> FormData:
    # as browsers and curl do: a slash in a file name stays one
    data = FormData(default_to_multipart=True, quote_fields=False)
    for name, content in files:
        data.add_field(field, content, filename=name or "", content_type="application/octet-stream")
    return data


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def tarred(
    *members: tuple[str, bytes] | tarfile.TarInfo, mode: Literal["w", "w:gz"] = "w"
) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:
        for each in members:
            if isinstance(each, tarfile.TarInfo):
                archive.addfile(each)
                continue
            info = tarfile.TarInfo(each[0])
            info.size = len(each[1])
            archive.addfile(info, io.BytesIO(each[1]))
    return target.getvalue()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[World]:
    """A gateway of its own for each test."""
    async with world(tmp_path) as running:
        yield running
