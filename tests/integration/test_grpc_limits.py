import grpc

from gateway.kserve.grpc_upstream import SERVICE
from tests.support.access import managing, new_key
from tests.support.fake_inference import photo
from tests.support.grpc_gateway import code_of, infer_request, refusal, serving_grpc
from tests.support.grpc_triton import Script, running

MESSAGE = infer_request(photo()).SerializeToString()


async def test_limits_of_keys_hold_over_grpc(tmp_path):
    async with managing(tmp_path) as manager:
        key = await new_key(manager, "infer")
    metadata = (("authorization", f"Bearer {key}"),)
    async with (
        running(Script()) as triton,
        serving_grpc(
            triton_grpc_url=triton, authentication="on", home=tmp_path, key_requests_per_minute=1
        ) as (address, _),
        grpc.aio.insecure_channel(address) as channel,
    ):
        await channel.unary_unary(f"/{SERVICE}/ModelInfer")(MESSAGE, metadata=metadata)
        error = await refusal(channel, "ModelInfer", MESSAGE, metadata=metadata)
        assert code_of(error) == ("RESOURCE_EXHAUSTED", "rate_limited")
        stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(metadata=metadata)
        await stream.write(MESSAGE)
        assert b"[rate_limited]" in await stream.read()
