"""From a call to its answer: context, log and metrics, key, limits, message, handler."""

import asyncio
import logging
import time
from functools import partial
from typing import Final

import grpc

from gateway.errors import (
    AurumError,
    MethodNotAllowedError,
    RequestTimeoutError,
)
from gateway.grpc import handlers
from gateway.grpc.call import GrpcCall, GrpcServices
from gateway.grpc.reception import Reception
from gateway.grpc.status import REQUEST_ID_KEY, metadata_of, status_of, text_of
from gateway.grpc.table import OTHERS, RPCS, Rpc
from gateway.kserve.grpc_upstream import SERVICE
from gateway.kserve.public_models import NOT_OFFERED

log = logging.getLogger(__name__)
access_log = logging.getLogger("gateway.access")

_PREFIX: Final = f"/{SERVICE}/"
_UNKNOWN: Final = "unknown"
_GONE: Final = "CANCELLED"
_OK: Final = "OK"


class KServe(grpc.GenericRpcHandler):  # type: ignore[misc]
    """KServe v2 of the gateway.

    All calls are served as streams, also those with one message: gRPC would receive that message
    before it calls a handler, and here the key comes first.
    """

    def __init__(self, services: GrpcServices, reception: Reception) -> None:
        self._services = services
        self._reception = reception

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return what answers a call; None: it is of another service, which does not exist."""
        if not details.method.startswith(_PREFIX):
            return None
        name = details.method.removeprefix(_PREFIX)
        known = name if name in RPCS else _UNKNOWN
        answer = partial(self._answer, known, RPCS.get(name, OTHERS))
        # no (de)serialisers: bytes come in and go out
        return grpc.stream_stream_rpc_method_handler(answer)

    async def _answer(
        self, name: str, rpc: Rpc, _messages: object, context: grpc.aio.ServicerContext
    ) -> None:
        call = GrpcCall.begin(self._services, context)
        metrics = self._services.metrics.grpc
        failure: AurumError | None = None
        status = _GONE
        metrics.in_flight.inc()
        try:
            failure = await self._outcome(rpc, call, context)
            status = _OK if failure is None else str(status_of(failure).name)
        finally:
            metrics.in_flight.dec()
            code = failure.code if failure is not None else ""
            self._record(name, call, status=status, code=code)
        if failure is None:
            context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
            return
        if call.is_stuck:
            # no status can follow an answer that was not taken; gRPC keeps it until the client
            # reads, cancels or goes away, but it holds no place any more
            raise asyncio.CancelledError
        metadata = metadata_of(failure, request_id=call.request_id)
        await context.abort(status_of(failure), text_of(failure), metadata)

    async def _outcome(
        self, rpc: Rpc, call: GrpcCall, context: grpc.aio.ServicerContext
    ) -> AurumError | None:
        """Answer; returns the error, whose details clients see if it was foreseen."""
        try:
            await self._authorize(rpc, call)
            if rpc.kind == "stream":
                await self._stream(rpc, call, context)
            else:
                await self._once(rpc, call, context)
        except AurumError as error:
            return error
        except Exception:
            if context.done():
                # the client hung up meanwhile: nobody waits for an answer
                raise asyncio.CancelledError from None
            log.exception("unexpected", extra={"request_id": call.request_id})
            return AurumError("unexpected error; the log has its request id")
        return None

    async def _authorize(self, rpc: Rpc, call: GrpcCall) -> None:
        """Resolve the caller; raises MethodNotAllowedError to one that may know what is offered."""
        call.check_credentials()
        call.caller = await self._services.authorizer.authorize(call.headers, rpc.permission)
        if rpc is OTHERS:
            raise MethodNotAllowedError(NOT_OFFERED)

    async def _once(self, rpc: Rpc, call: GrpcCall, context: grpc.aio.ServicerContext) -> None:
        infers = rpc.handler is None
        async with self._services.limiter.admit(call.caller, with_images=infers) as admission:
            if infers:
                # before the message is read, so that a refusal costs as little as possible
                self._services.triton.check()
                await self._services.quotas.check_images(call.caller.tenant)
            message = await self._reception.only_message(context, call.caller.tenant, call.deadline)
            call.start_work(message)
            if rpc.handler is None:
                answer = await handlers.infer(call, message, admission)
            else:
                answer = await rpc.handler(call, message)
        await _write(call, context, answer)

    async def _stream(self, rpc: Rpc, call: GrpcCall, context: grpc.aio.ServicerContext) -> None:
        """Answer one message after the other; most errors do not end the stream."""
        async with (
            # an idle stream holds a place for messages, so it counts, too
            self._services.limiter.admit(call.caller, counted="place"),
            self._reception.stream(call.caller.tenant) as stream,
        ):
            while (message := await stream.next_message(context)) is not None:
                call.start_work(message)
                # the key may have been revoked since the stream began
                await self._authorize(rpc, call)
                answer = await self._one_of_many(call, message)
                await _write(call, context, answer)
                seconds = time.monotonic() - call.work_started
                self._services.metrics.grpc.latency.labels("ModelStreamInfer").observe(seconds)

    async def _one_of_many(self, call: GrpcCall, message: bytes) -> bytes:
        limiter = self._services.limiter
        try:
            async with limiter.admit(call.caller, with_images=True, counted="work") as admission:
                return handlers.streamed(await handlers.infer(call, message, admission))
        except AurumError as error:
            self._services.metrics.errors.labels(error.code).inc()
            return handlers.streamed_error(message, error)

    def _record(self, name: str, call: GrpcCall, *, status: str, code: str) -> None:
        metrics, now = self._services.metrics, time.monotonic()
        metrics.grpc.calls.labels(name, status).inc()
        if name != "ModelStreamInfer":
            metrics.grpc.latency.labels(name).observe(now - call.work_started)
        if code:
            metrics.errors.labels(code).inc()
        access_log.info(
            "request",
            extra={
                "request_id": call.request_id,
                "method": "gRPC",
                "route": f"{_PREFIX}{name}",
                "status": status,
                "code": code,
                "ms": round((now - call.started) * 1000, 2),
                "receiving_ms": round((call.work_started - call.started) * 1000, 2),
                "bytes_in": call.bytes_in,
                "bytes_out": call.bytes_out,
                "tenant": call.caller.tenant,
                "caller": call.caller.name,
            },
        )


async def _write(call: GrpcCall, context: grpc.aio.ServicerContext, answer: bytes) -> None:
    """Send an answer; raises RequestTimeoutError if the client does not take it."""
    call.bytes_out += len(answer)
    seconds = call.services.settings.body_timeout_seconds
    try:
        async with asyncio.timeout(seconds):
            await context.write(answer)
    except TimeoutError as error:
        call.is_stuck = True
        message = f"the client has not taken its answer within {seconds:g} s"
        raise RequestTimeoutError(message) from error
