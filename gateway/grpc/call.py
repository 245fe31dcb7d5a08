"""A call as its handler sees it, and the services that handlers use."""

import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Final

import grpc

from gateway.api.auth import UNRESOLVED_CALLER, Authorizer
from gateway.api.context import is_request_id
from gateway.api.lifecycle import Lifecycle
from gateway.concurrency import CpuPool
from gateway.deadline import Deadline
from gateway.errors import UnauthorizedError
from gateway.grpc.limiting import Limiter
from gateway.grpc.status import REQUEST_ID_KEY
from gateway.kserve.grpc_upstream import TritonGrpc
from gateway.security.quotas import Quotas
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.types import Caller

_CREDENTIALS: Final = ("authorization", "x-api-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcServices:
    """What calls use; most of it is shared with HTTP."""

    settings: Settings
    authorizer: Authorizer
    limiter: Limiter
    quotas: Quotas
    cpu_pool: CpuPool
    triton: TritonGrpc
    metrics: Metrics
    lifecycle: Lifecycle


@dataclass(slots=True)
class GrpcCall:
    """What is known of a call; times on the monotonic clock.

    headers: its metadata, without binary values; names are in lower case.
    started: when its metadata arrived. work_started: when its message, or the last one of a
    stream, was complete.
    """

    services: GrpcServices
    request_id: str
    headers: dict[str, str]
    started: float
    work_started: float
    deadline: Deadline
    client_deadline: Deadline
    has_two_keys: bool
    caller: Caller = UNRESOLVED_CALLER
    bytes_in: int = 0
    bytes_out: int = 0
    is_stuck: bool = False
    """Whether the client did not take an answer."""

    @classmethod
    def begin(cls, services: GrpcServices, context: grpc.aio.ServicerContext) -> "GrpcCall":
        """Begin when the metadata has arrived."""
        now = time.monotonic()
        left = context.time_remaining()
        given = [
            (key.lower(), value)
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        ]
        headers = dict(given)
        request_id = headers.get(REQUEST_ID_KEY, "")
        if not is_request_id(request_id):
            request_id = uuid.uuid4().hex
        client = Deadline(now + left) if left is not None else Deadline(float("inf"))
        deadline = Deadline(min(now + services.settings.request_timeout_seconds, client.at))
        deadline.make_current()
        counts = Counter(key for key, _ in given)
        doubled = any(counts[name] > 1 for name in _CREDENTIALS)
        return cls(services, request_id, headers, now, now, deadline, client, doubled)

    def check_credentials(self) -> None:
        """Raise UnauthorizedError if a key is given twice: nobody knows which one counts."""
        if self.has_two_keys:
            raise UnauthorizedError("send one key or token, not several")

    def start_work(self, message: bytes) -> None:
        """Restart the deadline, because a message is complete."""
        self.bytes_in += len(message)
        self.work_started = time.monotonic()
        seconds = self.services.settings.request_timeout_seconds
        self.deadline = Deadline(min(self.work_started + seconds, self.client_deadline.at))
        self.deadline.make_current()
