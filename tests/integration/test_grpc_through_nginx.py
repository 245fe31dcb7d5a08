"""KServe v2 over gRPC through nginx, with the configuration that we ship."""

from contextlib import ExitStack

import grpc

from gateway.kserve.grpc_upstream import SERVICE
from tests.support import nginx
from tests.support.access import managing, new_key
from tests.support.fake_inference import photo
from tests.support.grpc_gateway import code_of, infer_request, refusal, serving_grpc
from tests.support.grpc_triton import Script, running
from tests.support.serving import free_ports

# larger than what nginx holds of a body
MESSAGE = infer_request(photo() + bytes(1 << 20)).SerializeToString()


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def test_calls_and_streams_pass_and_a_gateway_that_is_gone_costs_nothing(tmp_path):
    async with managing(tmp_path) as manager:
        key = await new_key(manager, "infer")
    metadata = (("authorization", f"Bearer {key}"),)
    script = Script()
    port, balanced, gone = free_ports(3)
    async with (
        running(script) as triton,
        serving_grpc(triton_grpc_url=triton, authentication="on", home=tmp_path) as (address, _),
    ):
        with ExitStack() as stack:
            stack.enter_context(
                nginx.balancing(
                    tmp_path, port, [gone, gone], grpc_port=balanced, grpc=[port_of(address), gone]
                )
            )
            async with grpc.aio.insecure_channel(f"127.0.0.1:{balanced}") as channel:
                infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
                for _ in range(4):
                    assert await infer(MESSAGE, metadata=metadata, timeout=60)
                error = await refusal(channel, "ModelInfer", MESSAGE)
                assert code_of(error) == ("UNAUTHENTICATED", "unauthorized")
                error = await refusal(channel, "RepositoryIndex", metadata=metadata)
                assert code_of(error) == ("UNIMPLEMENTED", "method_not_allowed")
                stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")(metadata=metadata)
                for _ in range(3):
                    await stream.write(MESSAGE)
                    assert (await stream.read())[:1] == b"\x12"
                await stream.done_writing()
                assert await stream.code() is grpc.StatusCode.OK
    assert len(script.inferred) == 7
