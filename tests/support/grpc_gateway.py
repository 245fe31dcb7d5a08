"""A gateway with gRPC in this process, and calls to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from aiohttp import ClientSession
from tritonclient.grpc import InferInput, service_pb2

from gateway.kserve.grpc_upstream import SERVICE
from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference
from tests.support.gateway_server import serving
from tests.support.serving import free_ports


@asynccontextmanager
async def serving_grpc(**settings: Any) -> AsyncIterator[tuple[str, ClientSession]]:
    """Serve; yields the address of gRPC and a client of HTTP."""
    (port,) = free_ports(1)
    async with serving(FakeInference(), Embedder(), grpc_port=port, **settings) as client:
        yield f"localhost:{port}", client


def image_input(data: bytes) -> InferInput:
    """Make the input of the ensembles."""
    given = InferInput("IMAGE", [1], "BYTES")
    given.set_data_from_numpy(np.array([data], dtype=object))
    return given


def infer_request(data: bytes, **fields: Any) -> Any:
    """Make the message that asks an ensemble about an image."""
    request = service_pb2.ModelInferRequest(**{"model_name": "face_pipeline", **fields})
    request.inputs.add(name="IMAGE", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)
    return request


async def refusal(
    channel: grpc.aio.Channel, method: str, message: bytes = b"", **more: Any
) -> grpc.aio.AioRpcError:
    """Make a call that must be refused; returns the error."""
    call = channel.unary_unary(f"/{SERVICE}/{method}")
    try:
        answer = await call(message, timeout=60, **more)
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"{method} was answered: {answer!r}")


def code_of(error: grpc.aio.AioRpcError) -> tuple[str, str | None]:
    """Return the status and the stable code of an error."""
    trailing = dict(error.trailing_metadata() or ())
    return error.code().name, trailing.get("aurum-code")
