"""Who may call over gRPC: the key comes in the metadata, before any message is received."""

import asyncio
import logging
from collections.abc import Mapping

import grpc
import pytest

from gateway.api.auth import Permission
from gateway.errors import AurumError, ForbiddenError, UnauthorizedError
from gateway.grpc.table import RPCS
from gateway.kserve.grpc_upstream import SERVICE
from gateway.security.roles import GRANTS, Role
from gateway.types import Caller
from tests.support.access import make_keys, managing, new_key
from tests.support.fake_inference import photo
from tests.support.grpc_gateway import code_of, infer_request, refusal, serving_grpc
from tests.support.grpc_triton import Script, running

MESSAGE = infer_request(photo()).SerializeToString()
REFUSALS = [UnauthorizedError("no key"), ForbiddenError("not with this key")]
STATUSES = {"unauthorized": "UNAUTHENTICATED", "forbidden": "PERMISSION_DENIED"}


class Keys:
    """Refuses everybody, or nobody."""

    def __init__(self, refusal: AurumError | None = None) -> None:
        self.refusal = refusal
        self.asked: list[Permission] = []

    async def authorize(self, headers: Mapping[str, str], permission: Permission) -> Caller:
        self.asked.append(permission)
        if self.refusal is not None:
            raise self.refusal
        return Caller(tenant="acme", name="tester")


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.code)
async def test_a_refused_caller_gets_its_error_without_sending_a_message(error):
    keys, script = Keys(error), Script()
    async with (
        running(script) as triton,
        serving_grpc(triton_grpc_url=triton, authorizer=keys) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        for name in [*RPCS, "RepositoryModelLoad"]:
            # the metadata goes out, a message never comes
            call = channel.stream_stream(f"/{SERVICE}/{name}")(timeout=60)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert code_of(refused.value) == (STATUSES[error.code], error.code), name
            assert refused.value.details() == error.detail
    assert keys.asked == [rpc.permission for rpc in RPCS.values()] + [Permission.INFER]
    assert script.inferred == script.questions == []


def key_in(text: str | None) -> tuple[tuple[str, str], ...]:
    return () if text is None else (("authorization", f"Bearer {text}"),)


async def test_every_call_is_answered_to_keys_with_its_role_only(tmp_path, monkeypatch):
    keys = await make_keys(tmp_path, monkeypatch)
    script = Script()
    async with (
        running(script) as triton,
        serving_grpc(triton_grpc_url=triton, authentication="on", home=tmp_path) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):

        async def outcome(name: str, metadata: tuple[tuple[str, str], ...]) -> str:
            call = channel.stream_stream(f"/{SERVICE}/{name}")(timeout=60, metadata=metadata)
            try:
                await call.write(MESSAGE)
                await call.done_writing()
                await call.read()
                return (await call.code()).name
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return (await call.code()).name

        for name, rpc in RPCS.items():
            for role, key in keys.mine.items():
                found = await outcome(name, key_in(key))
                if rpc.permission in GRANTS[Role(role)]:
                    assert found not in ("UNAUTHENTICATED", "PERMISSION_DENIED"), (name, role)
                else:
                    assert found == "PERMISSION_DENIED", (name, role)
            for kind, key in keys.refused.items():
                assert await outcome(name, key_in(key)) == "UNAUTHENTICATED", (name, kind)
        by_other_name = (("x-api-key", keys.admin),)
        assert await outcome("ServerLive", by_other_name) == "OK"
        for twice in (key_in(keys.admin) * 2, key_in(keys.admin) + by_other_name):
            assert await outcome("ServerLive", twice) == "UNAUTHENTICATED"


async def test_a_stream_ends_when_its_key_is_revoked(tmp_path):
    script = Script()
    async with managing(tmp_path) as manager:
        key = await new_key(manager, "infer", "admin", tenant="acme")
    async with (
        running(script) as triton,
        serving_grpc(triton_grpc_url=triton, authentication="on", home=tmp_path) as (address, http),
        grpc.aio.insecure_channel(address) as channel,
    ):
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(metadata=key_in(key))
        await stream.write(MESSAGE)
        assert (await stream.read())[:1] == b"\x12"
        headers = {"Authorization": f"Bearer {key}"}
        async with http.delete(f"/api/admin/keys/{key.split('_')[1]}", headers=headers) as response:
            assert response.status == 200
        await stream.write(MESSAGE)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert code_of(ended.value) == ("UNAUTHENTICATED", "unauthorized")
    assert len(script.inferred) == 1


async def test_images_count_for_the_quota_of_the_tenant(tmp_path):
    async with managing(tmp_path) as manager:
        key = await new_key(manager, "infer")
    async with (
        running(Script()) as triton,
        serving_grpc(
            triton_grpc_url=triton, authentication="on", home=tmp_path, tenant_images_per_day=1
        ) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        await channel.unary_unary(f"/{SERVICE}/ModelInfer")(MESSAGE, metadata=key_in(key))
        error = await refusal(channel, "ModelInfer", MESSAGE, metadata=key_in(key))
        assert code_of(error) == ("RESOURCE_EXHAUSTED", "rate_limited")
        assert int(dict(error.trailing_metadata())["retry-after"]) > 0


async def test_a_message_that_does_not_come_is_given_up():
    async with (
        running(Script()) as triton,
        serving_grpc(triton_grpc_url=triton, body_timeout_seconds=0.2) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        for name in ("ModelInfer", "ModelStreamInfer"):
            call = channel.stream_stream(f"/{SERVICE}/{name}")(timeout=60)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert code_of(refused.value) == ("DEADLINE_EXCEEDED", "timeout")
            assert "no whole message arrived within 0.2 s" in refused.value.details()


async def test_there_is_room_for_so_many_messages_only():
    # two places: one for a call, one for a stream
    settings = {"max_receiving_megabytes": 20, "request_timeout_seconds": 1.0}
    async with (
        running(Script()) as triton,
        serving_grpc(triton_grpc_url=triton, **settings) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        for name in ("ModelInfer", "ModelStreamInfer"):
            method = channel.stream_stream(f"/{SERVICE}/{name}")
            first = method(timeout=60)
            await first.wait_for_connection()
            second = method(timeout=60)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await second.read()
            assert code_of(refused.value) == ("UNAVAILABLE", "inference_unavailable")
            await first.write(MESSAGE)
            await first.done_writing()
            assert await first.read()
            third = method(timeout=60)
            await third.write(MESSAGE)
            await third.done_writing()
            assert await third.read()


async def test_a_client_that_does_not_take_its_answers_is_given_up(caplog):
    caplog.set_level(logging.INFO, "gateway.access")
    small = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024)]
    async with (
        running(Script()) as triton,
        serving_grpc(triton_grpc_url=triton, body_timeout_seconds=0.5) as (address, _),
        grpc.aio.insecure_channel(address, small) as channel,
    ):
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")()
        # each answer has 40 kB, and nobody reads them
        for _ in range(20):
            await stream.write(MESSAGE)
        async with asyncio.timeout(60):
            while not caplog.records:
                await asyncio.sleep(0.05)
        [record] = caplog.records
        assert (record.status, record.code) == ("DEADLINE_EXCEEDED", "timeout")
        assert record.bytes_out < 20 * 40_000
        # others are still answered
        assert await channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=60)
        stream.cancel()
