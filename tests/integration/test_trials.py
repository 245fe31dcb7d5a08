"""A candidate beside the engine, in the whole gateway: who answers, and what a failure costs."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from gateway.errors import AurumError, InferenceUnavailableError, InvalidImageError
from tests.support.collections import FakeEmbedder
from tests.support.fake_candidate import TRIED, FakeCandidate, candidate
from tests.support.fake_inference import SPACE, FakeInference, photo
from tests.support.gateway_server import form, post, serving


class Embedder(FakeEmbedder):
    """Enough to close."""

    async def close(self) -> None:
        return


NAN = AurumError("its embeddings hold values that are not finite")


@asynccontextmanager
async def gateway(
    tried: FakeCandidate,
    active: FakeInference | None = None,
    embedder: Embedder | None = None,
    **settings,
):
    """Serve, and wait until the gateway has learnt what is tried."""
    async with serving(active or FakeInference(), embedder, tried, **settings) as client:
        while (await trial(client)) is None:
            await asyncio.sleep(0.01)
        yield client


async def trial(client) -> dict | None:
    async with client.get("/api/ml/models/candidate") as response:
        return (await response.json())["trial"]


async def when(client, condition) -> dict:
    """Wait for what runs in the background."""
    deadline = time.monotonic() + 60
    while not condition(found := await trial(client)):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
    return found


async def ask(client, route: str = "embed", *, request_id: str = "", **changes) -> dict:
    headers = {"X-Request-ID": request_id} if request_id else {}
    status, body, _ = await post(client, route, form(image=photo(**changes)), headers=headers)
    assert status == 200, body
    return body["models"]


async def sample(client, name: str, **labels: str) -> float:
    """Value of a metric; 0 where there is none."""
    async with client.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    found = [line for line in lines if line.startswith(name + "{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(w in line for w in wanted))


async def test_a_canary_answers_its_share_and_always_the_same_requests():
    tried = FakeCandidate(candidate(share=0.5))
    async with gateway(tried) as client:
        keys = [f"key-{number}" for number in range(60)]
        first = [(await ask(client, request_id=key))["space"] for key in keys]
        again = [(await ask(client, request_id=key))["space"] for key in keys]
    assert first == again
    assert set(first) == {SPACE, TRIED}
    assert 15 < first.count(TRIED) < 45


async def test_an_answer_names_the_version_that_made_it():
    async with gateway(FakeCandidate(candidate())) as client:
        assert (await ask(client))["embedding"] == "7"
        assert (await ask(client, "detect"))["embedding"] is None
        status, verified, _ = await post(
            client, "verify", form(image_a=photo(), image_b=photo(seed=1))
        )
        assert status == 200
        assert verified["models"]["space"] == TRIED


async def test_collections_never_meet_a_candidate():
    tried = FakeCandidate(candidate(stage="face_detection"))
    async with gateway(tried, embedder=Embedder()) as client:
        async with client.post("/api/collections", json={"name": "crew"}) as made:
            assert made.status == 201
        at = "/api/collections/crew"
        async with client.post(f"{at}/faces", data=form(image=photo(), subject="one")) as enrolled:
            assert enrolled.status == 201
        async with client.post(f"{at}/search", data=form(image=photo())) as answer:
            assert (await answer.json())["faces"][0]["matches"][0]["subject"] == "one"
        assert tried.calls == 0
        await ask(client, "detect")
        assert tried.calls == 1


async def test_the_cache_keeps_versions_apart_even_of_one_id():
    tried = FakeCandidate(candidate(identifier=SPACE, share=0.5))
    async with gateway(tried, cache="on") as client:
        seen = set()
        for number in range(60):
            models = await ask(client, request_id=f"key-{number}")
            seen.add(models["embedding"])
        assert seen == {"2", "7"}
        # each version computed it once, the background apart
        assert tried.calls == 1
        found = await trial(client)
        assert (found["active"]["answered"], found["candidate"]["answered"]) == (1, 1)


@pytest.mark.parametrize("error", [NAN, InvalidImageError("it says"), None])
async def test_where_a_candidate_fails_the_version_in_service_answers(error):
    tried = FakeCandidate(candidate(), seconds=0 if error else 60)
    tried.error = error
    settings = {} if error else {"request_timeout_seconds": 1.0}
    async with gateway(tried, **settings) as client:
        assert (await ask(client))["space"] == SPACE
        code = error.code if error else "timeout"
        assert (await trial(client))["candidate"]["errors"] == {code: 1}


async def test_a_candidate_that_fails_is_stopped_and_says_why():
    tried = FakeCandidate(candidate())
    tried.error = NAN
    async with gateway(tried) as client:
        for _ in range(6):
            assert (await ask(client))["space"] == SPACE
        found = await trial(client)
        assert tried.calls == 3
        assert found["state"] == "stopped"
        assert found["reason"] == f"3 failures in a row: {NAN.detail}"
        labels = {"state": "stopped", "version": "7"}
        assert await sample(client, "aurum_trial_share", **labels) == 0
        # a new trial begins anew
        tried.error, tried.tried = None, candidate(trial="t2")
        await when(client, lambda each: each["state"] == "running")
        assert (await ask(client))["space"] == TRIED


async def test_what_fails_with_both_does_not_speak_against_the_candidate():
    active, tried = FakeInference(), FakeCandidate(candidate())
    async with gateway(tried, active) as client:
        active.error = tried.error = InferenceUnavailableError("away", retry_after_seconds=1)
        for _ in range(5):
            status, _, _ = await post(client, "embed", form(image=photo()))
            assert status == 503
        assert (await trial(client))["state"] == "running"


async def test_the_shadow_answers_nobody_and_is_compared():
    tried = FakeCandidate(candidate(mode="shadow"))
    async with gateway(tried) as client:
        assert (await ask(client, faces=2))["space"] == SPACE
        found = await when(client, lambda each: each["compared"]["images"])
        assert found["active"]["answered"] == found["candidate"]["answered"] == 1
        assert (found["active"]["faces"], found["candidate"]["faces"]) == (2, 2)
        assert found["compared"]["matched"] == 2
        # two spaces: no cosine
        assert found["compared"]["cosine_mean"] is None
        async with asyncio.timeout(60):
            # the shadow rests after each run, nine times as long
            while found["compared"]["images"] < 2:
                await ask(client, "score", seed=1)
                await asyncio.sleep(0.2)
                found = await when(client, lambda each: each["compared"]["images"])
        assert found["compared"]["score_difference_mean"] == 0.5
        name, labels = "aurum_trial_answers_total", {"role": "candidate", "version": "7"}
        assert await sample(client, name, outcome="ok", **labels) == 2


async def test_cosines_are_taken_within_one_space():
    tried = FakeCandidate(candidate(mode="shadow", identifier=SPACE))
    async with gateway(tried) as client:
        await ask(client)
        found = await when(client, lambda each: each["compared"]["images"])
        assert found["compared"]["cosine_mean"] == pytest.approx(0.6)
        assert await sample(client, "aurum_trial_cosine_sum") == pytest.approx(0.6)


async def test_a_slow_shadow_keeps_nobody_waiting_and_runs_alone():
    tried = FakeCandidate(candidate(mode="shadow"))
    tried.held = asyncio.Event()
    async with gateway(tried) as client:
        await ask(client)
        while not tried.active:
            await asyncio.sleep(0.01)
        for seed in range(7):
            assert (await ask(client, seed=seed))["space"] == SPACE
        # all were answered while the first image was still being looked at
        assert (tried.calls, tried.ended) == (1, [])
        found = await trial(client)
        assert (found["compared"]["skipped"], found["active"]["answered"]) == (7, 8)
        tried.held.set()
        await when(client, lambda each: each["compared"]["images"] == 1)


async def test_what_runs_beside_takes_a_tenth_of_the_time():
    tried = FakeCandidate(candidate(mode="shadow"), seconds=0.1)
    async with gateway(tried) as client:
        deadline = time.monotonic() + 60
        while tried.calls < 2:
            await ask(client)
            await asyncio.sleep(0.02)
            assert time.monotonic() < deadline
        ran = tried.ended[0] - tried.began[0]
        assert tried.began[1] - tried.ended[0] >= 9 * ran


async def test_a_shadow_that_fails_fails_nobody_and_is_stopped():
    tried = FakeCandidate(candidate(mode="shadow"))
    tried.error = NAN
    async with gateway(tried) as client:
        deadline = time.monotonic() + 10
        while (found := await trial(client))["state"] == "running":
            assert (await ask(client))["space"] == SPACE
            await asyncio.sleep(0.05)
            assert time.monotonic() < deadline, found
        assert found["compared"]["failed"] == 3
        assert "not finite" in found["reason"]


async def test_a_canary_is_compared_with_the_version_in_service():
    active = FakeInference()
    async with gateway(FakeCandidate(candidate()), active) as client:
        assert (await ask(client, "score"))["embedding"] == "7"
        found = await when(client, lambda each: each["compared"]["images"])
        assert found["compared"]["score_difference_max"] == 0.5
        # what nobody was answered with is no answer of the version in service
        assert found["active"]["answered"] == 0


async def test_without_a_trial_there_is_nothing_to_show():
    async with serving(FakeInference()) as client:
        assert await trial(client) is None
        assert (await ask(client))["space"] == SPACE


async def test_a_trial_that_ends_gives_all_requests_back():
    tried = FakeCandidate(candidate())
    async with gateway(tried) as client:
        assert (await ask(client))["space"] == TRIED
        tried.tried = None
        while await trial(client) is not None:
            await asyncio.sleep(0.05)
        assert (await ask(client))["space"] == SPACE
