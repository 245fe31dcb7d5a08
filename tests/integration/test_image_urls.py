"""Images that callers name by URLs, in every route that takes an image."""

import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aurum_client import AsyncAurumClient, ImageError, ImageUrl, NamedImage

from gateway.api.receiving import Receiving
from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference, photo
from tests.support.gateway_server import form, post, refused, serving, sha256
from tests.support.image_urls import OPEN, Names, RawServer, moved, opener, page
from tests.support.upload_world import ROUTE

ONE, TWO = photo(seed=1), photo(seed=2)
PAGES = {
    "/one.png": page(ONE),
    "/two.png": page(TWO),
    "/moved": moved("/one.png"),
    "/gone.png": page(b"", status="404 Not Found"),
    "/none.png": page(b"no image"),
    "/inside": moved("http://169.254.169.254/latest/meta-data/"),
    "/large.png": page(ONE + bytes(100_000)),
}


class Pages(RawServer):
    """Answers by path."""

    def __init__(self) -> None:
        super().__init__(self.answer)

    async def answer(self, _: Any, writer: Any) -> None:
        writer.write(PAGES[self.paths[-1]])

    @property
    def paths(self) -> list[str]:
        """Paths of all requests, without queries."""
        return [head.split()[1].decode().partition("?")[0] for head in self.heads]


@asynccontextmanager
async def gateway(**settings: Any) -> AsyncIterator[SimpleNamespace]:
    names = Names({"images.test": [[OPEN]], "inner.test": [["10.0.0.7"]]})
    options = {"image_urls": "public", "max_image_bytes": 100_000, **settings}
    fake = FakeInference()
    async with Pages().running() as server:
        options["image_url_ports"] = str(server.port)
        async with serving(fake, Embedder(), open_fetcher=opener(names), **options) as client:
            yield SimpleNamespace(client=client, server=server, fake=fake)


@pytest.fixture
async def world() -> AsyncIterator[SimpleNamespace]:
    async with gateway() as running:
        yield running


@pytest.mark.parametrize("route", ["score", "detect", "embed"])
async def test_an_image_is_named_by_its_url(world, route):
    sent = {"json": {"image_url": world.server.url("/one.png?signature=secret")}}
    status, body, _ = await post(world.client, route, **sent)
    assert status == 200
    assert body["image"]["sha256"] == sha256(ONE)
    status, body, _ = await post(world.client, route, form(image_url=world.server.url("/moved")))
    assert status == 200
    assert body["image"]["sha256"] == sha256(ONE)
    assert world.server.paths == ["/one.png", "/moved", "/one.png"]


async def test_each_image_of_a_pair_may_be_a_url(world):
    url = world.server.url("/two.png")
    packed = base64.b64encode(ONE).decode()
    seen = []
    for sent in (
        {"json": {"image_a": packed, "image_b_url": url}},
        {"json": {"image_a_url": world.server.url("/one.png"), "image_b_url": url}},
        {"data": form(image_b_url=url, image_a=ONE)},
    ):
        status, body, _ = await post(world.client, "verify", **sent)
        assert status == 200, body
        seen.append([body[f"image_{side}"]["sha256"] for side in ("a", "b")])
    assert seen == [[sha256(ONE), sha256(TWO)]] * 3


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/gone.png", "image_url_failed"),
        ("/none.png", "unsupported_media_type"),
        ("/inside", "image_url_refused"),
        ("/large.png", "image_too_large"),
    ],
)
async def test_what_cannot_be_had_is_a_problem(world, path, code):
    url = world.server.url(path)
    detail = await refused(world.client, "score", code, json={"image_url": url})
    for hidden in ("169.254", "10.0.0.7", OPEN, "images.test", "meta-data"):
        assert hidden not in detail
    assert world.fake.needs == []
    async with world.client.get("/metrics") as response:
        text = await response.text()
    outcome = "fetched" if code == "unsupported_media_type" else code
    assert f'aurum_image_urls_total{{outcome="{outcome}"}} 1.0' in text


async def test_inner_hosts_are_refused(world):
    for url in (world.server.url(host="inner.test"), world.server.url(host="127.0.0.1"), "x"):
        await refused(world.client, "score", "image_url_refused", json={"image_url": url})
    assert world.server.connections == []


async def test_without_the_setting_nothing_is_fetched():
    async with gateway(image_urls="off") as world:
        sent = {"image_url": world.server.url("/one.png")}
        detail = await refused(world.client, "score", "image_url_refused", json=sent)
        assert "AURUM_IMAGE_URLS" in detail
        upload = {"images": [sent]}
        async with world.client.post(ROUTE, json=upload) as response:
            assert (await response.json(content_type=None))["code"] == "image_url_refused"
            assert response.status == 422
    assert world.server.connections == []


async def test_a_fetched_image_counts_as_a_sent_one():
    async with gateway(tenant_images_per_day=3) as world:
        url = world.server.url("/one.png")
        pair = {"image_a_url": url, "image_b_url": url}
        assert (await post(world.client, "verify", json=pair))[0] == 200
        await refused(world.client, "verify", "rate_limited", json=pair)
        assert (await post(world.client, "score", json={"image_url": url}))[0] == 200
        await refused(world.client, "score", "rate_limited", json={"image_url": url})
    assert len(world.server.heads) == 3


@pytest.mark.parametrize("route", ["detect", "score/batch"])
async def test_fetched_bytes_count_as_those_that_are_received(route, monkeypatch):
    hold, seen = Receiving.hold, []

    def limited(receiving: Receiving, size: int) -> None:
        if receiving not in seen:
            seen.append(receiving)
            # room for the body, and not for an image
            monkeypatch.setattr(receiving, "_most_bytes", 100)
        hold(receiving, size)

    monkeypatch.setattr(Receiving, "hold", limited)
    async with gateway() as world:
        named = {"image_url": world.server.url("/one.png")}
        body = named if route == "detect" else {"images": [named]}
        await refused(world.client, route, "inference_unavailable", json=body)
        (receiving,) = seen
        monkeypatch.setattr(receiving, "_most_bytes", 1 << 20)
        status, _, _ = await post(world.client, route, json=body)
        assert status in (200, 202)
        assert receiving.held_bytes == 0


async def test_people_are_enrolled_and_found_by_urls(world, caplog):
    caplog.set_level(logging.DEBUG, "gateway")
    client, url = world.client, world.server.url
    async with client.post("/api/collections", json={"name": "crew"}) as response:
        assert response.status == 201
    sent = {
        "image_urls": [url("/one.png?token=secret"), url("/gone.png"), url("/inside")],
        "image": base64.b64encode(TWO).decode(),
        "subject": "ada",
    }
    key = {"Idempotency-Key": "a"}
    at = "/api/collections/crew"
    async with client.post(f"{at}/faces", json=sent, headers=key) as response:
        enrolled = await response.json()
        assert response.status == 201, enrolled
    assert [each["index"] for each in enrolled["faces"]] == [0, 3]
    rejected = [(each["index"], each["code"]) for each in enrolled["rejected"]]
    assert rejected == [(1, "image_url_failed"), (2, "image_url_refused")]
    fetched = len(world.server.heads)
    async with client.post(f"{at}/faces", json=sent, headers=key) as response:
        assert await response.json() == enrolled
        assert response.headers["Idempotency-Replayed"] == "true"
    # an answer that is given again fetches nothing
    assert len(world.server.heads) == fetched
    other = {**sent, "image_urls": [url("/two.png")]}
    async with client.post(f"{at}/faces", json=other, headers=key) as response:
        assert response.status == 409
    async with client.post(f"{at}/search", json={"image_url": url("/one.png")}) as response:
        found = await response.json()
        assert response.status == 200
    assert found["faces"][0]["matches"][0]["subject"] == "ada"
    for wrong in ({"image_urls": [url("/gone.png")] * 2}, {"image_url": url("/gone.png")}):
        async with client.post(f"{at}/faces", json=wrong) as response:
            assert (await response.json(content_type=None))["code"] == "image_url_failed"
    assert "secret" not in caplog.text


async def test_the_images_of_an_enrolment_have_a_limit_together():
    async with gateway(max_enrol_megabytes=1, max_image_bytes=2 << 20) as world:
        PAGES["/megabyte.png"] = page(ONE + bytes(600 << 10))
        async with world.client.post("/api/collections", json={"name": "crew"}) as response:
            assert response.status == 201
        sent = {"image_urls": [world.server.url("/megabyte.png")] * 2}
        async with world.client.post("/api/collections/crew/faces", json=sent) as response:
            assert response.status == 413


async def test_a_job_may_consist_of_urls(world):
    url = world.server.url
    sent = {
        "images": [
            {"image_url": url("/one.png?token=secret")},
            {"name": "second.png", "image_url": url("/two.png")},
            base64.b64encode(ONE).decode(),
            {"image_url": url("/gone.png")},
            {"image_url": url("/inside")},
            {"image_url": "http://127.0.0.1/a.png"},
            {"image_url": url("/none.png")},
        ]
    }
    async with world.client.post(ROUTE, json=sent) as response:
        job = await response.json()
        assert response.status == 202, job
    assert (job["total"], job["failed"]) == (7, 4)
    async with world.client.get(f"/api/ml/jobs/{job['job_id']}/results") as response:
        items = (await response.json())["results"]
    assert [(each["name"], each.get("error", {}).get("code")) for each in items] == [
        ("images.test/one.png", None),
        ("second.png", None),
        ("image-2", None),
        ("images.test/gone.png", "image_url_failed"),
        ("images.test/inside", "image_url_refused"),
        ("127.0.0.1/a.png", "image_url_refused"),
        ("images.test/none.png", "unsupported_media_type"),
    ]
    data = form(image_url=url("/one.png"))
    data.add_field("image_url", url("/two.png"))
    data.add_field("images", ONE, filename="third.png")
    async with world.client.post(ROUTE, data=data) as response:
        job = await response.json()
        assert response.status == 202, job
    assert (job["total"], job["failed"]) == (3, 0)


async def test_the_urls_of_a_job_have_a_limit_of_time_and_bytes():
    async with gateway(body_timeout_seconds=1e-9) as world:
        data = form(image_url=world.server.url("/one.png"))
        async with world.client.post(ROUTE, data=data) as response:
            job = await response.json()
            assert response.status == 202, job
        assert (job["total"], job["failed"]) == (1, 1)
        assert world.server.connections == []
    async with gateway(job_max_megabytes=1, max_image_bytes=2 << 20) as world:
        PAGES["/megabyte.png"] = page(ONE + bytes(600 << 10))
        sent = {"images": [{"image_url": world.server.url("/megabyte.png")}] * 2}
        async with world.client.post(ROUTE, json=sent) as response:
            assert response.status == 413


async def test_the_client_names_images_by_urls(world):
    url = ImageUrl(world.server.url("/one.png"))
    address = str(world.client._base_url)
    async with AsyncAurumClient(address) as client:
        assert (await client.score(url)).image.sha256 == sha256(ONE)
        verified = await client.verify(url, ImageUrl(world.server.url("/two.png")))
        assert verified.image_b.sha256 == sha256(TWO)
        with pytest.raises(ImageError) as error:
            await client.detect(ImageUrl(world.server.url("/gone.png")))
        assert error.value.code == "image_url_failed"
        await client.create_collection("crew")
        enrolled = await client.enrol("crew", [url, ONE, TWO])
        assert len(enrolled.faces) == 3
        assert (await client.search("crew", url)).faces[0].matches
        job = await client.jobs.submit([url, NamedImage("b.png", url), ONE])
        assert (job.total, job.failed) == (3, 0)
        items = [each async for each in client.jobs.results(job.job_id)]
        assert [each.name for each in items[:2]] == ["images.test/one.png", "b.png"]
