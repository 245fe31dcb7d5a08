"""The portrait in the live ensemble, with real weights; and by several gateways at once."""

import asyncio
import json
import shutil
from contextlib import AsyncExitStack

import pytest

from gateway.inference.triton import TritonInference
from gateway.registry.reference import REFERENCE_FILE
from gateway.settings import CHECKOUT
from tests.integration.test_watched_parts import metric
from tests.support import redis
from tests.support.fake_inference import FakeInference
from tests.support.gateway_server import serving


async def portrait_of(client, *, success: bool = True) -> str:
    """Wait for a report in readiness; its detail."""
    for _ in range(600):
        async with client.get("/api/health/ready") as response:
            state = (await response.json())["parts"]["portrait"]
        if "ago" in state["detail"]:
            assert (state["status"] == "ready") is success, state
            return state["detail"]
        await asyncio.sleep(0.1)
    raise AssertionError(state)


@pytest.fixture
def shipped(real_repository, tmp_path):
    """The shipped versions' sidecars and references, if the server runs the shipped weights."""
    for stage in ("face_detection", "face_embedding", "face_scoring"):
        served = json.loads((real_repository / stage / "1" / "model.json").read_text())["id"]
        source = CHECKOUT / "model_repository" / stage / "1"
        assert json.loads((source / "model.json").read_text())["id"] == served
        target = tmp_path / "repository" / stage / "1"
        target.mkdir(parents=True)
        shutil.copy(source / REFERENCE_FILE, target)
    return tmp_path / "repository"


async def test_the_live_ensemble_answers_as_the_golden_answer(triton, shipped):
    settings = {"model_repository": shipped, "portrait_interval_seconds": 0.2}
    inference = TritonInference(triton.grpc_address)
    async with serving(inference, **settings) as client:
        assert (await portrait_of(client)).startswith("answers as ever")
        for stage in ("face_detection", "face_embedding", "face_scoring"):
            assert await metric(client, f'aurum_portrait_golden{{stage="{stage}"}}') == 1
        assert await metric(client, "aurum_portrait_box_shift_pixels ") < 0.5
        assert await metric(client, "aurum_portrait_landmark_shift_pixels ") < 0.5
        assert abs(await metric(client, "aurum_portrait_confidence_difference ")) < 0.01
        assert await metric(client, "aurum_portrait_embedding_distance ") < 1e-3
        assert abs(await metric(client, "aurum_portrait_score_difference ")) < 0.02
        assert 0 < await metric(client, "aurum_portrait_seconds ") < 10
        first = await metric(client, "aurum_portrait_last_success_timestamp_seconds ")
        for _ in range(600):
            await asyncio.sleep(0.1)
            if await metric(client, "aurum_portrait_last_success_timestamp_seconds ") > first:
                break
        else:
            raise AssertionError("sent once only")
        # users' answers are counted apart
        assert await metric(client, "aurum_faces_found_total ") == 0


async def test_drift_from_the_golden_answer_is_seen(triton, shipped):
    path = shipped / "face_detection" / "1" / REFERENCE_FILE
    reference = json.loads(path.read_text())
    reference["portrait"][0] -= 7
    path.write_text(json.dumps(reference))
    inference = TritonInference(triton.grpc_address)
    settings = {"model_repository": shipped, "portrait_interval_seconds": 0.2}
    async with serving(inference, **settings) as client:
        assert "box moved by" in await portrait_of(client, success=False)
        shift = await metric(client, "aurum_portrait_box_shift_pixels ")
        assert shift == pytest.approx(7, abs=0.5)


async def test_several_gateways_send_it_once_and_all_tell(tmp_path):
    with redis.server() as (url, process):
        engines = [FakeInference() for _ in range(3)]
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    serving(
                        engine,
                        redis_url=url,
                        triton_grpc_url="triton.example:8001",
                        portrait_interval_seconds=1.0,
                    )
                )
                for engine in engines
            ]
            for client in clients:
                await portrait_of(client)
            await asyncio.sleep(4)
            # each alone would have sent four or more
            assert 2 <= sum(len(engine.needs) for engine in engines) <= 8
            process.kill()
            before = [len(engine.needs) for engine in engines]
            # without Redis each sends its own
            async with asyncio.timeout(60):
                for engine, sent in zip(engines, before, strict=True):
                    while len(engine.needs) <= sent:
                        await asyncio.sleep(0.05)


async def test_gateways_of_their_own_triton_send_their_own(tmp_path):
    with redis.server() as (url, _):
        engines = [FakeInference() for _ in range(2)]
        async with AsyncExitStack() as stack:
            for engine in engines:
                client = await stack.enter_async_context(
                    serving(engine, redis_url=url, portrait_interval_seconds=0.2)
                )
                await portrait_of(client)
        assert all(engine.needs for engine in engines)
