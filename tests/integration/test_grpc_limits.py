from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from gateway.kserve.grpc_upstream import SERVICE
from tests.support.access import managing, new_key
from tests.support.fake_inference import photo
from tests.support.grpc_gateway import code_of, infer_request, refusal, serving_grpc
from tests.support.grpc_triton import Script, running

MESSAGE = infer_request(photo()).SerializeToString()


@asynccontextmanager
async def limited(home: Path, **limits: int) -> AsyncIterator[tuple[grpc.aio.Channel, Any]]:
    """A connection to a gateway with limits, and the metadata of a key."""
    async with managing(home) as manager:
        key = await new_key(manager, "infer")
    async with (
        running(Script()) as triton,
        serving_grpc(triton_grpc_url=triton, authentication="on", home=home, **limits) as (
            address,
            _,
        ),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel, (("authorization", f"Bearer {key}"),)


async def test_limits_of_keys_hold_over_grpc(tmp_path):
    async with limited(tmp_path, key_requests_per_minute=1) as (channel, metadata):
        await channel.unary_unary(f"/{SERVICE}/ModelInfer")(MESSAGE, metadata=metadata)
        error = await refusal(channel, "ModelInfer", MESSAGE, metadata=metadata)
        assert code_of(error) == ("RESOURCE_EXHAUSTED", "rate_limited")
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(metadata=metadata)
        await stream.write(MESSAGE)
        assert b"[rate_limited]" in await stream.read()


async def test_calls_of_a_tenant_that_send_nothing_leave_places_for_others(tmp_path):
    async with managing(tmp_path) as manager:
        silent = await new_key(manager, "infer")
        other = await new_key(manager, "infer", tenant="other")
    # four places: two for calls, two for streams, of which one tenant gets one
    settings = {"max_receiving_megabytes": 80, "request_timeout_seconds": 5}
    async with (
        running(Script()) as triton,
        serving_grpc(triton_grpc_url=triton, authentication="on", home=tmp_path, **settings) as (
            address,
            _,
        ),
        grpc.aio.insecure_channel(address) as channel,
    ):
        for name in ("ModelInfer", "ModelStreamInfer"):
            method = channel.stream_stream(f"/{SERVICE}/{name}")
            waiting = [method(metadata=(("x-api-key", silent),), timeout=60) for _ in range(2)]
            for each in waiting:
                await each.wait_for_connection()
            call = method(metadata=(("x-api-key", other),), timeout=60)
            await call.write(MESSAGE)
            await call.done_writing()
            assert await call.read()
            for each in waiting:
                each.cancel()


async def test_an_open_stream_is_one_of_the_requests_at_a_time(tmp_path):
    async with limited(tmp_path, key_concurrent=1) as (channel, metadata):
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(metadata=metadata)
        # its messages need no second place
        for _ in range(2):
            await stream.write(MESSAGE)
            assert b"[rate_limited]" not in await stream.read()
        # idle, and still open
        error = await refusal(channel, "ModelInfer", MESSAGE, metadata=metadata)
        assert code_of(error) == ("RESOURCE_EXHAUSTED", "rate_limited")
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        await channel.unary_unary(f"/{SERVICE}/ModelInfer")(MESSAGE, metadata=metadata)
