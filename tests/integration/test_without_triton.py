"""The gateway while Triton is away: what answers, what readiness and metrics say, what is kept."""

import asyncio

from gateway.errors import InferenceUnavailableError
from tests.support.fake_inference import FakeFallback, FakeInference, photo
from tests.support.gateway_server import form, post, refused, serving

AWAY = InferenceUnavailableError("away", retry_after_seconds=2)


async def ready(client):
    async with client.get("/api/health/ready") as response:
        return response.status, await response.json()


async def metric(client, line: str) -> bool:
    async with client.get("/metrics") as response:
        return line in await response.text()


def lose(triton: FakeInference) -> None:
    triton.error, triton.reachable = AWAY, False


def bring_back(triton: FakeInference) -> None:
    triton.error, triton.reachable = None, True


async def test_every_route_of_faces_is_answered_by_the_fallback_and_triton_again():
    triton, fallback = FakeInference(), FakeFallback()
    async with serving(triton, fallback=fallback) as client:
        status, body, _ = await post(client, "score", form(image=photo()))
        assert (status, body["engine"]) == (200, "triton")
        lose(triton)
        for route in ("score", "detect", "embed"):
            status, body, _ = await post(client, route, form(image=photo()))
            assert (status, body["engine"], len(body["faces"])) == (200, "fallback", 1)
        pair = form(image_a=photo(), image_b=photo())
        status, body, _ = await post(client, "verify", pair)
        assert (status, body["engine"], body["match"]) == (200, "fallback", True)
        status, body = await ready(client)
        assert (status, body["status"]) == (200, "degraded")
        assert body["parts"]["triton"]["status"] == "degraded"
        assert "not there" in body["parts"]["triton"]["detail"]
        assert body["parts"]["fallback"]["status"] == "ready"
        assert await metric(client, 'aurum_circuit_open{upstream="triton"} 1.0')
        assert await metric(client, 'aurum_inference_seconds_count{engine="fallback"} 5.0')
        bring_back(triton)
        assert (await ready(client))[1]["status"] == "ready"
        status, body, _ = await post(client, "score", form(image=photo()))
        assert (status, body["engine"]) == (200, "triton")
        assert await metric(client, 'aurum_circuit_open{upstream="triton"} 0.0')


async def test_faces_are_enrolled_and_found_while_triton_is_away():
    triton, fallback = FakeInference(), FakeFallback()
    async with serving(triton, fallback=fallback) as client:
        lose(triton)
        async with client.post("/api/collections", json={"name": "people"}) as response:
            assert response.status == 201
        async with client.post(
            "/api/collections/people/faces", data=form(image=photo(), subject="anna")
        ) as response:
            assert response.status == 201, await response.text()
        async with client.post(
            "/api/collections/people/search", data=form(image=photo())
        ) as response:
            (face,) = (await response.json())["faces"]
            assert face["matches"][0]["subject"] == "anna"


async def test_neither_engine_is_503_with_a_time_to_come_back():
    triton, fallback = FakeInference(), FakeFallback(error=AWAY)
    fallback.reachable = False
    async with serving(triton, fallback=fallback) as client:
        lose(triton)
        for _ in range(4):
            await refused(client, "detect", "inference_unavailable", form(image=photo()))
        status, body = await ready(client)
        assert (status, body["status"]) == (503, "unready")
        assert body["parts"]["fallback"]["status"] == "degraded"


async def test_without_the_fallback_it_is_503():
    triton = FakeInference()
    async with serving(triton) as client:
        lose(triton)
        for _ in range(4):
            await refused(client, "detect", "inference_unavailable", form(image=photo()))
        status, body = await ready(client)
        assert (status, body["status"]) == (503, "unready")
        assert body["parts"]["fallback"]["detail"] == "switched off"


async def test_answers_of_the_fallback_are_cached_and_say_who_computed_them():
    triton, fallback = FakeInference(), FakeFallback()
    async with serving(triton, fallback=fallback, cache="on") as client:
        lose(triton)
        for _ in range(3):
            await post(client, "detect", form(image=photo(seed=1)))
        # which weights answer is asked every second
        async with asyncio.timeout(60):
            while True:
                _, body, _ = await post(client, "detect", form(image=photo(seed=1)))
                if body["cached"]:
                    break
                await asyncio.sleep(0.1)
        assert body["engine"] == "fallback"
        asked = len(fallback.needs)
        bring_back(triton)
        await ready(client)
        _, body, _ = await post(client, "detect", form(image=photo(seed=1)))
        assert (body["engine"], body["cached"], len(fallback.needs)) == ("fallback", True, asked)


async def test_more_than_the_slower_engine_reaches_is_refused_and_does_not_time_out():
    triton, fallback = FakeInference(), FakeFallback(seconds=0.1)
    turn = asyncio.Semaphore(1)
    answer = fallback.analyse

    async def one_at_a_time(*arguments, **options):
        async with turn:
            return await answer(*arguments, **options)

    fallback.analyse = one_at_a_time
    async with serving(triton, fallback=fallback, request_timeout_seconds=4) as client:
        # Triton was fast: by its speed, all of these would be answered in time
        for seed in range(20):
            await post(client, "detect", form(image=photo(seed=seed)))
        lose(triton)

        async def ask(seed: int) -> tuple[int, bool]:
            status, _, headers = await post(client, "detect", form(image=photo(seed=seed)))
            return status, "Retry-After" in headers

        answers = await asyncio.gather(*(ask(seed) for seed in range(100)))
        assert set(answers) == {(200, False), (503, True)}
        assert answers.count((200, False)) >= 10
