"""The client of Triton's KServe v2 over gRPC: messages go through as bytes."""

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any, Final

import grpc

from gateway.concurrency import AdmissionControl, BackgroundTasks, SlowGate
from gateway.deadline import Deadline
from gateway.errors import AurumError, InferenceUnavailableError, RequestTimeoutError
from gateway.inference.client import CHANNEL, channel_credentials
from gateway.kserve.message import CheckedMessage
from gateway.kserve.upstream import (
    ATTEMPTS,
    CLOSING_SECONDS,
    JITTER_SECONDS,
    LEFT_ALONE_SECONDS,
    MAX_ANSWER_BYTES,
    explain,
)
from gateway.renewed_client import RenewedClient
from gateway.tls import Pem, TlsFiles

log = logging.getLogger(__name__)

SERVICE: Final = "inference.GRPCInferenceService"
_STATUSES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 500,
}
"""What Triton's HTTP answers where its gRPC has these; all others mean that it is not there."""
_AWAY: Final = 503


class TritonGrpc:
    """Calls to Triton by gRPC; opened within a running event loop."""

    def __init__(
        self, address: str, *, admission: AdmissionControl, slow: SlowGate, files: TlsFiles
    ) -> None:
        """admission, slow: those of all other requests, too; files: as `TritonCalls`."""
        self._admission = admission
        self._slow = slow
        # an answer has a limit, unlike those of the gateway's own calls
        options = [*dict(CHANNEL, **{"grpc.max_receive_message_length": MAX_ANSWER_BYTES}).items()]

        def connect(pem: Pem) -> grpc.aio.Channel:
            credentials = channel_credentials(files, pem)
            if credentials is None:
                return grpc.aio.insecure_channel(address, options)
            return grpc.aio.secure_channel(address, credentials, options)

        self._channels: RenewedClient[grpc.aio.Channel] = RenewedClient(
            files, connect, lambda channel: channel.close()
        )
        self._under_way = BackgroundTasks()

    def check(self) -> None:
        """Raise InferenceUnavailableError if an inference would wait too long now."""
        self._admission.check()

    async def ask(self, method: str, request: bytes, *, deadline: Deadline) -> bytes:
        """Ask about the server or a model; raises as `explain`, and RequestTimeoutError."""
        work = self._call(method, request, deadline, infers=False)
        return await self._wait(work, deadline.remaining_seconds())

    async def infer(self, request: CheckedMessage, *, deadline: Deadline) -> bytes:
        """Run a model; raises as `TritonHttp.infer`, and goes on without a caller as that does."""
        seconds = deadline.remaining_seconds()
        self.check()
        return await self._wait(self._infer(request, deadline), seconds)

    async def close(self) -> None:
        """Close the channel; running calls have a moment to finish, then they fail."""
        await self._under_way.settle(seconds=CLOSING_SECONDS)
        await self._under_way.close()
        await self._channels.close()

    async def _infer(self, request: CheckedMessage, deadline: Deadline) -> bytes:
        if request.is_slow:
            async with self._slow.turn(deadline):
                return await self._call("ModelInfer", request.body, deadline, infers=True)
        with self._admission.take():
            return await self._call("ModelInfer", request.body, deadline, infers=True)

    async def _wait(self, work: Coroutine[Any, Any, bytes], seconds: float) -> bytes:
        try:
            return await self._under_way.outlast("call-kserve", work, seconds=seconds)
        except TimeoutError as error:
            raise RequestTimeoutError("inference did not answer within the deadline") from error

    async def _call(
        self, method: str, request: bytes, deadline: Deadline, *, infers: bool
    ) -> bytes:
        """Call once more after a short random pause if Triton is not available."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._call_once(method, request, deadline, infers=infers)
            except InferenceUnavailableError:
                if attempt == ATTEMPTS or not deadline.allows(JITTER_SECONDS[1]):
                    raise
            await asyncio.sleep(random.uniform(*JITTER_SECONDS))
        raise AssertionError("not reached")

    async def _call_once(
        self, method: str, request: bytes, deadline: Deadline, *, infers: bool
    ) -> bytes:
        # no (de)serialisers: bytes go in and come out
        call = self._channels.now().unary_unary(f"/{SERVICE}/{method}")
        try:
            answer: bytes = await call(
                request, timeout=deadline.remaining_seconds() + LEFT_ALONE_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise _refusal(error, infers=infers) from error
        return answer


def _refusal(error: grpc.aio.AioRpcError, *, infers: bool) -> AurumError:
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return RequestTimeoutError("inference did not answer within the deadline")
    return explain(_STATUSES.get(code, _AWAY), text, infers=infers)
