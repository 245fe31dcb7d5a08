"""Uploads of jobs that are refused, and that nothing stays of them."""

import asyncio
import stat
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.types import DEFAULT_TENANT
from tests.support.raw_http import FORM, exchange, head
from tests.support.upload_world import (
    MEMBERS,
    ONE,
    PARTS,
    ROUTE,
    TWO,
    World,
    form,
    gateway,
    tarred,
    world,
    zipped,
)

__all__ = ["gateway"]

ARRIVING = "the images of the job are still arriving"
JSON_REFUSALS = {
    "no list": ({"images": "abc"}, "must be a list"),
    "an empty list": ({"images": []}, "must be a list"),
    "no images": ({}, "must be a list"),
    "a URL beside": ({"image_url": "https://a/b"}, "'image_url'; known: images"),
    "a number as URL": ({"images": [{"image_url": 3}]}, "'image_url' must be a URL"),
    "both": ({"images": [{"image_url": "https://a", "image": "YQ=="}]}, "send one"),
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

    async def ask(query: str, kind: str = "multipart/form-data; boundary=b", **more: str) -> Any:
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
        got, body = await ask(query)
        assert (got, expected in body["detail"]) == (status, True), (query, body)
    assert (await ask(f"{enrol}=x", **{"X-Reader": "1"}))[0] == 403
    assert (await ask("", "text/plain"))[0] == 415
    assert (await ask("", **{"Content-Encoding": "gzip"}))[0] == 415
    assert (await ask("", **{"Idempotency-Key": "x" * 300}))[0] == 400
    assert (await ask("", "multipart/form-data"))[0] == 400
    await gateway.nothing_new((set(), 0))


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
        (form(("a.png", ONE), field="image"), "known: images, image_url; options belong"),
        (form((None, b"x" * 9000), field="image_url"), "'image_url' is too long"),
        (form((None, b"\xff"), field="image_url"), "'image_url' is not UTF-8"),
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
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
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


async def test_an_upload_that_is_cancelled_ends_and_leaves_nothing(gateway: World) -> None:
    cancelled = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield PARTS[0]
        await cancelled.wait()
        for part in PARTS[1:]:
            yield part

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    sending = asyncio.create_task(gateway.send(body(), headers=kind, status=409))
    async with asyncio.timeout(60):
        while not (
            jobs := await gateway.records.jobs.page(DEFAULT_TENANT, limit=9, states=["receiving"])
        ):
            await asyncio.sleep(0.02)
    path = f"/api/ml/jobs/{jobs[0].id}"
    for method, below, status, expected in (
        ("GET", "", 200, "the images are being received"),
        (
            "POST",
            "/pause",
            409,
            "the images of the job are still arriving; it can only be cancelled",
        ),
        ("DELETE", "", 200, "cancelled"),
    ):
        async with gateway.client.request(method, path + below) as response:
            assert (response.status, (await response.json())["detail"]) == (status, expected)
    cancelled.set()
    problem = await sending
    assert problem["detail"] == "the job was cancelled while its images arrived"
    await gateway.nothing_new((set(), 0))
    async with gateway.client.get(path) as response:
        assert (await response.json())["state"] == "cancelled"


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


async def test_an_upload_that_stalls_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, body_idle_seconds=0.3) as gateway:
        sent = [head("POST", ROUTE, FORM, length=9_999_999), *PARTS[:3]]
        answer = await exchange(gateway.client, sent)
        assert answer.status == 504
        await gateway.nothing_new((set(), 0))
        assert not await gateway.records.jobs.page(DEFAULT_TENANT, limit=9)
