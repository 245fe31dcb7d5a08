"""Uploads of jobs over HTTP: every form, what is refused, and that nothing stays of a refusal."""

import asyncio
import base64
import io
import stat
import tarfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

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
from triton_python_backend.contract import DEFAULT_LOOK, MIN_CONFIDENCE

ROUTE = "/api/ml/score/batch"
ONE, TWO, THREE = photo(seed=1), photo(seed=2), photo(seed=3)
TOO_LARGE = ONE + bytes(LIMIT)
WORKER = "w1"


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


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as running:
        yield running


def form(*files: tuple[str | None, bytes], field: str = "images") -> FormData:
    data = FormData(default_to_multipart=True)
    for name, content in files:
        data.add_field(field, content, filename=name or "", content_type="application/octet-stream")
    return data


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    return target.getvalue()


def tarred(*members: tuple[str, bytes] | tarfile.TarInfo, mode: str = "w") -> bytes:
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


MEMBERS = [("a/1.png", ONE), ("notes.txt", b"hello"), (".DS_Store", b"x"), ("b/2.png", TWO)]


async def test_a_form_becomes_a_job(gateway: World) -> None:
    body = await gateway.send(
        form(("a.png", ONE), ("b.png", TOO_LARGE), ("c.txt", b"no image"), (None, TWO)),
        "?operation=detect&max_faces=3",
    )
    assert (body["state"], body["total"], body["failed"]) == ("queued", 4, 2)
    assert await gateway.items(body) == [
        ("a.png", "queued", None),
        ("b.png", "error", "image_too_large"),
        ("c.txt", "error", "unsupported_media_type"),
        ("image-3", "queued", None),
    ]
    assert await gateway.stored(body) == [ONE, TWO]
    job = await gateway.records.jobs.get(DEFAULT_TENANT, body["job_id"])
    assert job is not None
    assert job.options["max_faces"] == 3
    assert (job.operation, job.retention_seconds) == ("detect", 86400)
    raw = b"".join(
        file.read_bytes() for file in (gateway.home / "jobs").rglob("*") if file.is_file()
    )
    assert ONE[:64] not in raw
    # the images that were refused are all there is to do
    await gateway.work()
    assert (await gateway.send(form(("c.txt", b"x" * 40))))["state"] == "done"


@pytest.mark.parametrize("kind", ["zip", "x-tar", "gzip"])
async def test_an_archive_becomes_a_job(gateway: World, kind: str) -> None:
    big = ("big.png", TOO_LARGE)
    video = ("film.mov", bytes(LIMIT + 1))
    members = [*MEMBERS, big, video]
    data = {
        "zip": lambda: zipped(*members),
        "x-tar": lambda: tarred(*members),
        "gzip": lambda: tarred(*members, mode="w:gz"),
    }[kind]()
    body = await gateway.send(data, headers={"Content-Type": f"application/{kind}"})
    assert (body["total"], body["skipped"], body["failed"]) == (3, 3, 1)
    assert await gateway.items(body) == [
        ("a/1.png", "queued", None),
        ("b/2.png", "queued", None),
        ("big.png", "error", "image_too_large"),
    ]
    assert await gateway.stored(body) == [ONE, TWO]
    # nothing was left on the way
    assert gateway.left()[1] == 0


async def test_archives_may_be_parts_of_a_form(gateway: World) -> None:
    body = await gateway.send(
        form(("x.zip", zipped(*MEMBERS)), ("3.png", THREE), ("y.tar", tarred(("4.png", ONE))))
    )
    assert [name for name, _, _ in await gateway.items(body)] == [
        "x.zip/a/1.png",
        "x.zip/b/2.png",
        "3.png",
        "y.tar/4.png",
    ]
    assert await gateway.stored(body) == [ONE, TWO, THREE, ONE]
    assert body["skipped"] == 2


async def test_json_becomes_a_job(gateway: World) -> None:
    packed = base64.b64encode(ONE).decode()
    named = {"image": f"data:image/png;base64,{packed}", "name": "b"}
    body = await gateway.send(json={"images": [packed, named, "?", {"image": packed}]})
    assert await gateway.items(body) == [
        ("image-0", "queued", None),
        ("b", "queued", None),
        ("image-2", "error", "invalid_image"),
        ("image-3", "queued", None),
    ]
    assert await gateway.stored(body) == [ONE] * 3


JSON_REFUSALS = {
    "no list": ({"images": "abc"}, "must be a list"),
    "an empty list": ({"images": []}, "must be a list"),
    "no images": ({}, "must be a list"),
    "a URL": ({"images": [{"image_url": "https://a/b"}]}, "image_url is not offered yet"),
    "a URL beside": ({"image_url": "https://a/b"}, "image_url is not offered yet"),
    "a number": ({"images": [3]}, "must be base64"),
    "no image": ({"images": [{"name": "x"}]}, "'image' is missing"),
    "an unknown field": ({"images": [{"image": "YQ==", "nam": "x"}]}, "nam"),
    "an option": ({"images": ["YQ=="], "operation": "detect"}, "options belong in the query"),
    "too many": ({"images": ["YQ=="] * 21}, "20 images at most"),
}


@pytest.mark.parametrize("case", JSON_REFUSALS)
async def test_json_that_is_refused(gateway: World, case: str) -> None:
    document, expected = JSON_REFUSALS[case]
    detail = await gateway.refused(400, "invalid_request", json=document)
    assert expected in detail


async def test_options_are_checked_before_the_body(gateway: World) -> None:
    """None of these bodies is complete: whoever waited for it would not answer."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        await asyncio.Event().wait()

    async def head(query: str, kind: str = "multipart/form-data; boundary=b", **more: str) -> Any:
        headers = {"Content-Type": kind, "Expect": "100-continue", **more}
        async with gateway.client.post(ROUTE + query, data=endless(), headers=headers) as response:
            return response.status, await response.json(content_type=None)

    enrol = "?operation=enrol&collection"
    for query, status, expected in [
        ("?operation=verify", 400, "operation"),
        ("?opperation=score", 400, "unknown query parameter"),
        ("?include=everything", 400, "include"),
        ("?wait=61", 400, "wait"),
        ("?subject=anna", 400, "does not belong to operation=score"),
        (f"{enrol}=x&include=crop", 400, "does not belong to operation=enrol"),
        ("?operation=enrol", 400, "needs the query parameter 'collection'"),
        (f"{enrol}=nowhere", 404, "nowhere"),
        (f"{enrol}=x&subject=a&subject_from=name", 400, "send one"),
        (f"{enrol}=x&metadata=[", 400, "not JSON"),
        (f"{enrol}=x&metadata=%7B%22a%22%3A%5B%5D%7D", 400, "metadata"),
        ("?webhook=https://example.org/x", 403, "sends no webhooks"),
    ]:
        got, body = await head(query)
        assert (got, expected in body["detail"]) == (status, True), (query, body)
    assert (await head(f"{enrol}=x", **{"X-Reader": "1"}))[0] == 403
    assert (await head("", "text/plain"))[0] == 415
    assert (await head("", **{"Content-Encoding": "gzip"}))[0] == 415
    assert (await head("", **{"Idempotency-Key": "x" * 300}))[0] == 400
    assert (await head("", "multipart/form-data"))[0] == 400
    await gateway.nothing_new((set(), 0))


async def test_an_enrolment_takes_its_options_along(gateway: World) -> None:
    async with gateway.client.post("/api/collections", json={"name": "people"}) as response:
        assert response.status == 201
    query = (
        "?operation=enrol&collection=people&subject_from=folder&faces=single&quality=strict"
        "&metadata=%7B%22team%22%3A%22red%22%7D&rotation=off"
    )
    body = await gateway.send(form(("anna/1.png", ONE)), query)
    assert body["collection"] == "people"
    job = await gateway.records.jobs.get(DEFAULT_TENANT, body["job_id"])
    assert job is not None
    assert dict(job.options) == {
        "detail": DEFAULT_LOOK.detail,
        "faces": "single",
        "max_faces": None,
        "metadata": {"team": "red"},
        "min_confidence": MIN_CONFIDENCE,
        "quality": "strict",
        "rotation": "off",
        "subject": None,
        "subject_from": "folder",
    }


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("soft.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def special(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("odd.png")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def encrypted() -> bytes:
    data = bytearray(zipped(("1.png", ONE), ("locked.png", TWO)))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def bomb() -> bytes:
    return tarred(("1.png", ONE), ("x.bin", bytes(80 << 20)), mode="w:gz")


def broken() -> bytes:
    data = bytearray(zipped(("1.png", ONE), ("2.png", TWO)))
    data[50] ^= 0xFF
    return bytes(data)


HOSTILE = {
    "a link": (lambda: zipped(("1.png", ONE), (link(), b"x")), "zip", "'soft.png' is a link"),
    "a tar's link": (lambda: tarred(special(tarfile.SYMTYPE)), "x-tar", "'odd.png' is a link"),
    "a device": (lambda: tarred(special(tarfile.CHRTYPE)), "x-tar", "'odd.png' is no regular file"),
    "a path out": (lambda: zipped(("../1.png", ONE)), "zip", "'../1.png' has a path that leads"),
    "an absolute path": (lambda: tarred(("/1.png", ONE)), "x-tar", "leads out"),
    "a nested archive": (lambda: zipped(("in.zip", zipped())), "zip", "within an archive"),
    "a locked member": (encrypted, "zip", "'locked.png' is encrypted"),
    "a bomb": (bomb, "gzip", "many times its size"),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_archive_is_refused_and_leaves_nothing(gateway: World, case: str) -> None:
    make, kind, expected = HOSTILE[case]
    data = make()
    headers = {"Content-Type": f"application/{kind}"}
    detail = await gateway.refused(400, "invalid_request", data, headers=headers)
    assert expected in detail
    files = ("0.png", ONE), ("my.archive", data)
    detail = await gateway.refused(400, "invalid_request", form(*files))
    assert expected in detail
    assert "'my.archive'" in detail


async def test_archives_that_cannot_be_read(gateway: World) -> None:
    def headers(kind: str) -> dict[str, Any]:
        return {"headers": {"Content-Type": f"application/{kind}"}}

    cut = zipped(*MEMBERS)[:-30]
    assert "damaged" in await gateway.refused(422, "invalid_image", cut, **headers("zip"))
    cut = tarred(*MEMBERS, mode="w:gz")[:-30]
    assert "damaged" in await gateway.refused(422, "invalid_image", cut, **headers("gzip"))
    detail = await gateway.refused(422, "invalid_image", broken(), **headers("zip"))
    assert "'1.png' cannot be unpacked" in detail
    seven = b"7z\xbc\xaf\x27\x1c" + bytes(300)
    for body, kind in ((ONE, "zip"), (b"", "zip"), (seven, "zip"), (b"x" * 600, "x-tar")):
        expected = (400, "invalid_request") if not body else (415, "unsupported_media_type")
        await gateway.refused(*expected, body, **headers(kind))
    await gateway.refused(415, "unsupported_media_type", form(("a.7z", seven)))
    detail = await gateway.refused(
        400, "invalid_request", zipped(("n.txt", b"x")), **headers("zip")
    )
    assert "no image" in detail


async def test_forms_that_are_refused(gateway: World) -> None:
    for data, expected in [
        (form(("a.png", ONE), field="image"), "known: images; options belong in the query"),
        (form((None, b"https://a/b"), field="image_url"), "image_url is not offered yet"),
        (form(*[(f"{i}.png", ONE) for i in range(21)]), "20 images at most"),
    ]:
        assert expected in await gateway.refused(400, "invalid_request", data)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    start = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + ONE
    await gateway.refused(400, "invalid_request", start, headers=headers)
    await gateway.refused(400, "invalid_request", b"--b--\r\n", headers=headers)


async def test_too_many_bytes_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path, job_max_megabytes=1, job_max_images=1000) as gateway:
        images = [(f"{i}.png", ONE + bytes(90_000)) for i in range(15)]
        # announced, found on the way, and found within
        detail = await gateway.refused(413, "image_too_large", form(*images))
        assert "1 megabytes" in detail

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield bytes(65536)

        headers = {"Content-Type": "application/zip"}
        await gateway.refused(413, "image_too_large", chunks(), headers=headers)
        for archive, kind in ((zipped(*images), "zip"), (tarred(*images, mode="w:gz"), "gzip")):
            assert len(archive) < 1 << 20
            headers = {"Content-Type": f"application/{kind}"}
            detail = await gateway.refused(413, "image_too_large", archive, headers=headers)
            assert "unpacks to more than 1,048,576 bytes" in detail


async def test_a_client_that_hangs_up_leaves_nothing(gateway: World) -> None:
    async def hang_up(*pieces: bytes, kind: str) -> None:
        host, port = str(gateway.client._base_url.host), gateway.client._base_url.port
        _, writer = await asyncio.open_connection(host, port)
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n"
        writer.write(f"{head}Content-Length: 9999999\r\n\r\n".encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        for _ in range(200):
            if await gateway.records.jobs.page(DEFAULT_TENANT, limit=1, states=["receiving"]):
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("the upload did not begin")
        writer.close()

    part = b'--b\r\nContent-Disposition: form-data; name="images"; filename="%d"\r\n\r\n%b\r\n'
    parts = [part % (i, ONE) for i in range(5)]
    for pieces, kind in [
        (parts, "multipart/form-data; boundary=b"),
        ([zipped(*MEMBERS)], "application/zip"),
        ([b'{"images": ['], "application/json"),
    ]:
        await hang_up(*pieces, kind=kind)
        await gateway.nothing_new((set(), 0))
    assert not await gateway.records.jobs.page(DEFAULT_TENANT, limit=9)


async def test_a_repeated_upload_gets_the_first_answer(gateway: World) -> None:
    headers = {"Idempotency-Key": "k1"}
    files = ("a.png", ONE), ("b.png", TWO)
    first = await gateway.send(form(*files), "?operation=detect", headers=headers)
    before = gateway.left()
    again = await gateway.send(form(*files), "?operation=detect", headers=headers)
    assert again == first
    assert gateway.left() == before
    # the same images from a zip are the same content
    other = zipped(*files)
    zip_headers = headers | {"Content-Type": "application/zip"}
    assert await gateway.send(other, "?operation=detect", headers=zip_headers) == first
    for data, query in [
        (form(*files), "?operation=score"),
        (form(*files), "?operation=detect&max_faces=1"),
        (form(("a.png", ONE), ("c.png", TWO)), "?operation=detect"),
        (form(("a.png", ONE), ("b.png", THREE)), "?operation=detect"),
    ]:
        detail = await gateway.refused(409, "conflict", data, query, headers=headers)
        assert "another request" in detail
    query = "?operation=detect"
    third = await gateway.send(form(*files), query, headers={"Idempotency-Key": "k2"})
    assert third["job_id"] != first["job_id"]
    mine = await gateway.send(form(*files), query, headers=headers | {"X-Tenant": "b"})
    assert mine["job_id"] != first["job_id"]
    assert len(await gateway.records.jobs.page(DEFAULT_TENANT, limit=9)) == 2


async def test_an_upload_waits_for_its_job(gateway: World) -> None:
    sending = asyncio.create_task(gateway.send(form(("a.png", ONE)), "?wait=30", status=200))
    while not sending.done():
        await gateway.work()
        await asyncio.sleep(0.05)
    body = await sending
    assert (body["state"], body["failed"], body["total"]) == ("done", 1, 1)
    assert (await gateway.send(form(("a.png", ONE)), "?wait=0.2"))["state"] == "queued"


async def test_a_full_disk_refuses_uploads(tmp_path: Path) -> None:
    async with world(tmp_path, min_free_disk_megabytes=1 << 40) as gateway:
        detail = await gateway.refused(507, "insufficient_storage", form(("a.png", ONE)))
        assert "disk" in detail


async def test_a_bucket_that_is_away_refuses_uploads(tmp_path: Path) -> None:
    async with world(
        tmp_path,
        object_store_url="s3://jobs",
        object_store_endpoint="http://127.0.0.1:1",
        object_store_key_id="a",
        object_store_secret="b",
        object_store_timeout_seconds=0.5,
    ) as gateway:
        async with gateway.client.post(ROUTE, data=form(("a.png", ONE))) as response:
            assert response.status == 503
            assert int(response.headers["Retry-After"]) > 0
            assert (await response.json(content_type=None))["code"] == "jobs_unavailable"
        assert not await gateway.records.jobs.page(DEFAULT_TENANT, limit=9, states=["receiving"])
