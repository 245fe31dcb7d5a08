"""The Python client against the gateway: every kind of call, fallback and its end, examples."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aurum_client import (
    AsyncAurumClient,
    AurumClient,
    ConflictError,
    FaceEmbedding,
    FaceError,
    FaceOptions,
    ImageError,
    InvalidRequestError,
    NotFoundError,
    RetryPolicy,
    ServiceUnreachableError,
    UnavailableError,
)
from aurum_client.results.keys import KeyLimits

from gateway.errors import InferenceUnavailableError
from tests.support.access import managing, new_key
from tests.support.collection_client import Embedder
from tests.support.fake_inference import SPACE, FakeInference, photo
from tests.support.gateway_server import serving

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def inference() -> FakeInference:
    return FakeInference()


@pytest.fixture
async def url(tmp_path: Path, inference: FakeInference) -> AsyncIterator[str]:
    async with serving(inference, Embedder(), home=tmp_path) as session:
        yield str(session._base_url)


class InThreads:
    """The client without asyncio, as awaitables: the gateway runs in this thread's loop."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = AurumClient(url, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        return lambda *given, **named: asyncio.to_thread(method, *given, **named)

    async def listed(self, name: str, *given: Any, **named: Any) -> list[Any]:
        return await asyncio.to_thread(lambda: list(getattr(self.client, name)(*given, **named)))


class InLoop:
    """The async client, with the same helper."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = AsyncAurumClient(url, **options)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.client, name)

    async def close(self) -> None:
        await self.client.aclose()

    async def listed(self, name: str, *given: Any, **named: Any) -> list[Any]:
        return [each async for each in getattr(self.client, name)(*given, **named)]


KINDS = [InLoop, InThreads]


@pytest.fixture(params=KINDS, ids=["async", "sync"])
async def client(request, url: str) -> AsyncIterator[Any]:
    made = request.param(url, retry=ONCE)
    yield made
    await made.close()


async def test_faces_of_an_image(client):
    scored = await client.score(photo(faces=2, seed=3), include=["crop"], max_faces=1)
    (face,) = scored.faces
    assert scored.faces_found == 2
    assert scored.engine == "triton"
    assert scored.score_range == (1, 10)
    assert face.score == pytest.approx(1.3)
    assert face.box == (0, 0, 100, 100)
    assert face.crop_png().startswith(b"\x89PNG")
    assert (await client.detect(photo(faces=0))).faces == ()
    embedded = await client.embed(photo(seed=2))
    assert embedded.models.space == SPACE
    assert embedded.faces[0].embedding == (0, 0, 1, 0, 0, 0, 0, 0)
    assert list(embedded.faces[0].vector()) == [0, 0, 1, 0, 0, 0, 0, 0]
    same = await client.verify(photo(seed=2), photo(seed=2, size=(120, 90)), threshold=0.5)
    assert same.match
    assert same.similarity == pytest.approx(1)


async def test_images_may_be_paths_and_files(client, tmp_path):
    path = tmp_path / "Ärger 1.png"
    path.write_bytes(photo())
    for source in (path, str(path), io.BytesIO(photo()), bytearray(photo()), path.open("rb")):
        assert len((await client.score(source)).faces) == 1


async def test_refusals_are_typed(client):
    with pytest.raises(FaceError) as no_face:
        await client.score(photo(faces=0))
    assert no_face.value.code == "no_face"
    assert no_face.value.status == 422
    assert no_face.value.request_id
    with pytest.raises(ImageError):
        await client.score(b"not an image")
    with pytest.raises(InvalidRequestError, match="min_confidence"):
        await client.detect(photo(), min_confidence=3)
    with pytest.raises(NotFoundError):
        await client.get_collection("nobody")


async def test_a_collection_from_its_creation_to_its_end(client):
    created = await client.create_collection("staff", description="x", keep="crop")
    assert (created.faces, created.keep, created.migration) == (0, "crop", None)
    with pytest.raises(ConflictError):
        await client.create_collection("staff")
    changed = await client.update_collection("staff", retention_days=30)
    assert (changed.retention_days, changed.description) == (30, "x")
    assert (await client.update_collection("staff", retention_days=None)).retention_days is None

    enrolled = await client.enrol(
        "staff",
        [photo(seed=1), photo(seed=2), b"no image"],
        subject="José / ünï?#%",
        metadata={"team": "rot", "age": 3},
    )
    assert [face.index for face in enrolled.faces] == [0, 1]
    assert [each.code for each in enrolled.rejected] == ["unsupported_media_type"]
    one = await client.enrol_embeddings(
        "staff", [FaceEmbedding([0, 0, 0, 0, 1, 0, 0, 0], "emb", {"a": True})], space=SPACE
    )
    assert one.faces[0].metadata == {"a": True}

    found = await client.search("staff", photo(seed=1), filter={"team": "rot"}, limit=5)
    assert found.faces[0].matches[0].subject == "José / ünï?#%"
    by_vector = await client.search_embedding("staff", [0, 0, 0, 0, 1, 0, 0, 0], space=SPACE)
    assert [match.subject for match in by_vector.faces[0].matches] == ["emb"]

    faces = await client.listed("faces", "staff", page_size=1)
    assert len(faces) == 3
    assert {face.subject for face in faces} == {"José / ünï?#%", "emb"}
    assert len(await client.listed("faces", "staff", subject="emb")) == 1
    crop = await client.get_crop("staff", enrolled.faces[0].face_id)
    assert crop.startswith(b"\x89PNG")

    subject = await client.update_subject("staff", "José / ünï?#%", display_name="José")
    assert (subject.display_name, subject.faces) == ("José", 2)
    assert [s.subject for s in await client.listed("subjects", "staff", q="jose")] == [
        "José / ünï?#%"
    ]
    assert (await client.get_subject("staff", "emb")).faces == 1

    run = await client.start_clusters("staff", threshold=0.9)
    assert run.threshold == 0.9
    while (await client.get_clusters("staff")).state == "running":
        await asyncio.sleep(0.05)
    assert len(await client.listed("clusters", "staff", page_size=1)) == 3

    assert (await client.delete_face("staff", one.faces[0].face_id)).faces == 1
    assert (await client.delete_subject("staff", "José / ünï?#%")).faces == 2
    assert [each.name for each in await client.listed("collections")] == ["staff"]
    await client.delete_collection("staff")
    assert await client.listed("collections", page_size=1) == []


async def test_names_of_dots_reach_no_other_resource(client):
    await client.create_collection("staff")
    for name in (".", ".."):
        with pytest.raises(NotFoundError, match="subject"):
            await client.delete_subject("staff", name)
    with pytest.raises(ValueError, match="empty"):
        await client.delete_subject("staff", "")
    assert (await client.get_collection("staff")).name == "staff"


async def test_the_service_itself(client, inference):
    assert (await client.live()).status == "live"
    ready = await client.ready()
    assert ready.is_ready
    assert "face_detection" in ready.parts
    assert "aurum_http_requests_total" in await client.metrics()
    assert (await client.models()).stages[0].versions
    assert (await client.candidate()).trial is None
    inference.reachable = False
    assert not (await client.ready()).is_ready


async def test_limits_of_a_key(client, tmp_path):
    async with managing(tmp_path) as keys:
        key_id = (await new_key(keys, "infer", tenant="default")).split("_")[1]
    limits = {"requests_per_minute": 600, "burst": 60}
    changed = await client.update_key(key_id, limits=limits)
    assert (changed.key_id, changed.limits) == (key_id, KeyLimits(600, 60))
    assert (await client.update_key(key_id, limits={"burst": None})).limits == KeyLimits(600)
    assert changed.valid
    with pytest.raises(NotFoundError):
        await client.update_key("none", limits={})


async def test_many_images_at_once_in_their_order(client, inference):
    inference.seconds = 0.02
    images = [photo(faces=1 + number % 3) for number in range(24)]
    images[5] = photo(faces=0)
    outcomes = await client.listed(
        "score_many", iter(images), concurrency=4, options=FaceOptions(include=("embedding",))
    )
    assert [each.index for each in outcomes] == list(range(24))
    assert [each.image for each in outcomes] == images
    assert isinstance(outcomes[5].error, FaceError)
    good = [each for each in outcomes if each.error is None]
    assert [len(each.result.faces) for each in good] == [
        1 + number % 3 for number in range(24) if number != 5
    ]
    assert 1 < inference.most_active <= 4
    missing = await client.listed("detect_many", ["/nowhere/at/all.png"])
    assert isinstance(missing[0].error, FileNotFoundError)


class Recorder:
    """A fallback that answers with the gateway's own answer to another image."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.images: list[bytes] = []

    def score(self, image: bytes, options: FaceOptions) -> Any:
        self.images.append(image)
        return self.result

    detect = embed = score


@pytest.mark.parametrize("kind", KINDS)
async def test_the_fallback_answers_until_a_check_passes(kind, url, inference):
    with_result = kind(url)
    fallback = Recorder(await with_result.score(photo()))
    await with_result.close()
    client = kind(url, retry=ONCE, fallback=fallback, check_seconds=0.2)
    assert (await client.score(photo())).engine == "triton"
    inference.error = InferenceUnavailableError("away")
    inference.reachable = False
    result = await client.score(photo(seed=7))
    assert result.engine == "fallback"
    assert fallback.images == [photo(seed=7)]
    asked = len(inference.needs)
    assert (await client.embed(photo())).engine == "fallback"
    assert len(inference.needs) == asked, "an unhealthy service was asked"
    inference.error = None
    await asyncio.sleep(0.25)
    # the check fails: the service is not ready
    assert (await client.detect(photo())).engine == "fallback"
    inference.reachable = True
    assert (await client.detect(photo())).engine == "fallback", "checked too often"
    await asyncio.sleep(0.25)
    assert (await client.detect(photo())).engine == "triton"
    # what the service refuses is no reason for the fallback
    with pytest.raises(FaceError):
        await client.score(photo(faces=0))
    await client.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_service(kind):
    client = kind("http://127.0.0.1:9", retry=RetryPolicy(attempts=2, first_pause=0.01))
    with pytest.raises(ServiceUnreachableError):
        await client.live()
    await client.close()


async def test_an_overloaded_service(client, inference):
    inference.error = InferenceUnavailableError("busy", retry_after_seconds=7)
    with pytest.raises(UnavailableError) as refused:
        await client.detect(photo())
    assert refused.value.retry_after == 7
