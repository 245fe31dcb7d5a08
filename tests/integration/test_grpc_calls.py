"""KServe v2 over gRPC at the gateway, before a Triton whose answers are written down."""

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from tritonclient.grpc import InferRequestedOutput, service_pb2
from tritonclient.grpc.aio import InferenceServerClient

from gateway.kserve.grpc_upstream import SERVICE
from gateway.types import DEFAULT_TENANT
from tests.support.fake_inference import photo
from tests.support.gateway_server import LIMIT
from tests.support.grpc_gateway import code_of, image_input, infer_request, refusal, serving_grpc
from tests.support.grpc_triton import Script, running
from triton_python_backend.contract import PIPELINE

PHOTO = photo()
SCORES = {"SCORE", "HEAD"}


@asynccontextmanager
async def gateway(**settings):
    script = Script()
    async with (
        running(script) as triton,
        serving_grpc(triton_grpc_url=triton, max_image_bytes=LIMIT, **settings) as (address, http),
        grpc.aio.insecure_channel(address) as channel,
        InferenceServerClient(address) as client,
    ):
        yield script, client, channel, http


async def test_the_client_of_triton_works_unchanged():
    async with gateway() as (script, client, _, _):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("face_pipeline", "007")
        assert script.questions[-1][1].version == "7"
        metadata = await client.get_server_metadata()
        assert list(metadata.extensions) == ["parameters", "binary_tensor_data"]
        metadata = await client.get_model_metadata("face_pipeline")
        assert {output.name for output in metadata.outputs} >= SCORES
        config = await client.get_model_config("face_embedding")
        assert config.config.name == "face_embedding"
        answer = await client.infer(
            "face_pipeline",
            [image_input(PHOTO)],
            outputs=[InferRequestedOutput("BOXES")],
            request_id="mine",
            priority=2,
        )
        assert answer.as_numpy("BOXES").shape == (1, 4)
        assert answer.get_response().id == "mine"
    [sent] = script.inferred
    assert [output.name for output in sent.outputs] == ["BOXES"]
    assert sent.parameters["priority"].uint64_param == 2


async def test_all_outputs_are_asked_for_by_name_without_those_that_are_hidden():
    for scoring, expected in (
        ("on", {output.name for output in PIPELINE.outputs}),
        ("off", {output.name for output in PIPELINE.outputs} - SCORES),
    ):
        async with gateway(scoring=scoring) as (script, client, channel, _):
            await client.infer("face_pipeline", [image_input(PHOTO)])
            [sent] = script.inferred
            assert {output.name for output in sent.outputs} == expected
            metadata = await client.get_model_metadata("face_pipeline")
            assert {output.name for output in metadata.outputs} == expected
            if scoring == "off":
                request = infer_request(PHOTO)
                request.outputs.add(name="SCORE")
                error = await refusal(channel, "ModelInfer", request.SerializeToString())
                assert code_of(error) == ("INVALID_ARGUMENT", "invalid_request")


async def test_nothing_else_of_kserve_is_offered():
    methods = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    offered = {
        *("ServerLive", "ServerReady", "ServerMetadata"),
        *("ModelReady", "ModelMetadata", "ModelConfig", "ModelInfer", "ModelStreamInfer"),
    }
    others = {method.name for method in methods} - offered
    assert len(others) == 12
    async with gateway() as (script, _, channel, _):
        for name in sorted(others):
            error = await refusal(channel, name)
            assert code_of(error) == ("UNIMPLEMENTED", "method_not_allowed"), name
        error = await refusal(
            channel,
            "ModelInfer",
            infer_request(b"", model_name="face_alignment").SerializeToString(),
        )
        assert code_of(error) == ("NOT_FOUND", "not_found")
        # a service of another name does not exist for gRPC
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/grpc.reflection.v1.ServerReflection/X")(b"", timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert script.inferred == script.questions == []


def changed(**fields):
    request = infer_request(PHOTO)
    for name, value in fields.items():
        setattr(request, name, value)
    return request


def with_parameter(where, name, **value):
    request = infer_request(PHOTO)
    place = {"request": request, "input": request.inputs[0]}.get(where) or request.outputs.add(
        name="BOXES"
    )
    for kind, given in value.items():
        setattr(place.parameters[name], kind, given)
    return request


def twice():
    request = infer_request(PHOTO)
    request.raw_input_contents.append(b"")
    return request


def both():
    request = infer_request(PHOTO)
    request.inputs[0].contents.bytes_contents.append(PHOTO)
    return request


BAD = {
    "no message of this kind": (b"\xff\xff", "invalid_request"),
    "nothing": (b"", "not_found"),
    "no number": (changed(model_version="latest"), "not_found"),
    "a long id": (changed(id="x" * 1025), "invalid_request"),
    "reserved": (with_parameter("request", "triton_x", bool_param=True), "invalid_request"),
    "no priority": (with_parameter("request", "priority", string_param="1"), "invalid_request"),
    "shared memory": (
        with_parameter("input", "shared_memory_region", string_param="x"),
        "invalid_request",
    ),
    "classification": (
        with_parameter("output", "classification", int64_param=1),
        "invalid_request",
    ),
    "too many tensors": (twice(), "invalid_request"),
    "two places": (both(), "invalid_request"),
    "no image": (infer_request(b"x"), "unsupported_media_type"),
    "too many bytes": (infer_request(PHOTO + bytes(LIMIT)), "image_too_large"),
}


async def test_what_is_wrong_never_reaches_triton():
    async with gateway() as (script, _, channel, _):
        for name, (message, code) in BAD.items():
            data = message if isinstance(message, bytes) else message.SerializeToString()
            error = await refusal(channel, "ModelInfer", data)
            status = "NOT_FOUND" if code == "not_found" else "INVALID_ARGUMENT"
            assert code_of(error) == (status, code), (name, error.details())
    assert script.inferred == []


async def test_tensors_may_be_lists_of_numbers():
    async with gateway() as (script, _, channel, _):
        infer = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        request = service_pb2.ModelInferRequest(model_name="face_pipeline")
        image = request.inputs.add(name="IMAGE", datatype="BYTES", shape=[1])
        image.contents.bytes_contents.append(PHOTO)
        await infer(request.SerializeToString())
        crops = service_pb2.ModelInferRequest(model_name="face_detection")
        canvas = crops.inputs.add(name="CANVAS", datatype="UINT8", shape=[1, 1, 1, 3])
        for numbers, code in (([1, 2], "elements"), ([1, 2, 256], "does not fit"), ([], "needs")):
            del canvas.contents.uint_contents[:]
            canvas.contents.uint_contents.extend(numbers)
            error = await refusal(channel, "ModelInfer", crops.SerializeToString())
            assert code in error.details()
        canvas.ClearField("contents")
        canvas.contents.int_contents.extend([1, 2, 3])
        error = await refusal(channel, "ModelInfer", crops.SerializeToString())
        assert "uint_contents" in error.details()
    assert [sent.model_name for sent in script.inferred] == ["face_pipeline"]


async def test_a_packed_message_is_refused_unread():
    async with gateway() as (script, client, _, _):
        with pytest.raises(Exception, match="gzip") as refused:
            await client.infer(
                "face_pipeline", [image_input(bytes(LIMIT))], compression_algorithm="gzip"
            )
        assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
    assert script.inferred == []


async def test_errors_of_triton_come_with_their_code_and_its_absence_is_tried_again():
    unavailable = (grpc.StatusCode.UNAVAILABLE, "secret address")
    async with gateway() as (script, _, channel, _):
        message = infer_request(PHOTO).SerializeToString()
        script.failures = [unavailable]
        await channel.unary_unary(f"/{SERVICE}/ModelInfer")(message)
        assert len(script.inferred) == 2
        for failures, expected in (
            ([unavailable] * 2, ("UNAVAILABLE", "inference_unavailable")),
            ([(grpc.StatusCode.INTERNAL, "broken")], ("INTERNAL", "internal")),
            (
                [(grpc.StatusCode.INTERNAL, "in ensemble: invalid_image: no EOI")],
                ("INVALID_ARGUMENT", "invalid_image"),
            ),
            ([(grpc.StatusCode.INVALID_ARGUMENT, "bad")], ("INVALID_ARGUMENT", "invalid_request")),
        ):
            script.failures = list(failures)
            error = await refusal(channel, "ModelInfer", message)
            assert code_of(error) == expected, error.details()
            assert "secret" not in error.details()
            if expected[0] == "UNAVAILABLE":
                assert dict(error.trailing_metadata())["retry-after"] == "2"


async def test_a_caller_waits_until_its_own_deadline_or_the_gateways():
    async with gateway(request_timeout_seconds=0.3) as (script, _, channel, _):
        script.seconds = 1
        message = infer_request(PHOTO).SerializeToString()
        error = await refusal(channel, "ModelInfer", message)
        assert code_of(error) == ("DEADLINE_EXCEEDED", "timeout")
        # the call goes on: Triton may die of one that is cancelled
        assert script.cancelled == 0


async def test_requests_of_both_protocols_wait_in_one_queue():
    async with gateway(max_in_flight=1) as (script, _, channel, _):
        script.seconds = 0.5
        message = infer_request(PHOTO).SerializeToString()
        first = asyncio.ensure_future(channel.unary_unary(f"/{SERVICE}/ModelInfer")(message))
        await script.called.wait()
        error = await refusal(channel, "ModelInfer", message)
        assert code_of(error) == ("UNAVAILABLE", "inference_unavailable")
        await first


async def test_calls_are_logged_and_counted_without_what_was_sent(caplog):
    caplog.set_level(logging.INFO, "gateway.access")
    async with gateway() as (_, _, channel, http):
        message = infer_request(PHOTO).SerializeToString()
        metadata = (("x-request-id", "my-id"), ("x-secret", "in-metadata"))
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer")(message, metadata=metadata)
        await call
        assert dict(await call.trailing_metadata())["x-request-id"] == "my-id"
        error = await refusal(channel, "LogSettings")
        assert len(dict(error.trailing_metadata())["x-request-id"]) == 32
        async with http.get("/metrics") as response:
            text = await response.text()
    assert 'aurum_grpc_calls_total{method="ModelInfer",status="OK"} 1.0' in text
    assert 'aurum_grpc_calls_total{method="unknown",status="UNIMPLEMENTED"} 1.0' in text
    assert 'aurum_errors_total{code="method_not_allowed"} 1.0' in text
    first = next(record for record in caplog.records if record.request_id == "my-id")
    assert first.route == f"/{SERVICE}/ModelInfer"
    assert (first.status, first.tenant, first.bytes_in) == ("OK", DEFAULT_TENANT, len(message))
    assert "in-metadata" not in caplog.text


async def test_a_stream_answers_in_order_and_goes_on_after_an_error():
    async with gateway() as (script, client, _, _):

        async def requests():
            for name, data in (("a", PHOTO), ("b", b"x"), ("c", PHOTO)):
                yield {
                    "model_name": "face_pipeline",
                    "inputs": [image_input(data)],
                    "request_id": name,
                }

        answers = [each async for each in client.stream_infer(requests())]
        ids = [answer and answer.get_response().id for answer, _ in answers]
        assert ids == ["a", None, "c"]
        assert "[unsupported_media_type]" in str(answers[1][1])
    assert len(script.inferred) == 2


async def test_a_stop_answers_what_is_in_flight_and_ends_idle_streams():
    script = Script(seconds=0.3)
    message = infer_request(PHOTO).SerializeToString()
    loop = asyncio.get_running_loop()
    async with running(script) as triton, AsyncExitStack() as stack:
        async with serving_grpc(triton_grpc_url=triton) as (address, _):
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            stream = channel.stream_stream(f"/{SERVICE}/ModelStreamInfer")()
            await stream.write(message)
            assert (await stream.read())[:1] == b"\x12"
            idle = asyncio.ensure_future(stream.read())
            script.called.clear()
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")(message)
            in_flight = asyncio.ensure_future(call)
            await script.called.wait()
            started = loop.time()
        # an idle stream may last for minutes, and holds up no stop
        assert loop.time() - started < 8
        assert service_pb2.ModelInferResponse.FromString(await in_flight).model_name
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await idle
        assert code_of(ended.value) == ("UNAVAILABLE", "inference_unavailable")
