"""What every handler gets: the services of the app and the context of its request."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.cache.analyses import AnalysisCache
from gateway.collections.intake import Intake
from gateway.collections.service import Collections
from gateway.concurrency import CpuPool
from gateway.deadline import Deadline
from gateway.errors import InvalidRequestError
from gateway.inference.base import Inference
from gateway.kserve.upstream import TritonHttp
from gateway.monitoring.factory import Watch
from gateway.pipeline import Pipeline
from gateway.registry.calibration import Calibrations
from gateway.registry.reference import References
from gateway.rollout.trials import Trials
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.types import Caller

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Options = TypeVar("Options", bound=BaseModel)

REQUEST_ID_HEADER: Final = "X-Request-ID"


@dataclass(frozen=True, slots=True)
class Services:
    """What the handlers call."""

    settings: Settings
    inference: Inference
    pipeline: Pipeline
    workers: CpuPool
    metrics: Metrics
    collections: Collections
    intake: Intake
    answers: AnalysisCache | None
    calibrations: Calibrations
    trials: Trials
    references: References
    watch: Watch
    kserve: TritonHttp


@dataclass(slots=True)
class RequestContext:
    """What is known of a request before its handler runs; times on the monotonic clock.

    started: when the head of the request came in. work_started: when its body was complete, from
    which the deadline counts, or refused; `started` for a request without a body.
    """

    request_id: str
    caller: Caller
    started: float
    work_started: float
    deadline: Deadline
    timeout_seconds: float

    @classmethod
    def begin(cls, request_id: str, caller: Caller, *, timeout_seconds: float) -> Self:
        """Begin with the head of the request."""
        now = time.monotonic()
        deadline = Deadline(now + timeout_seconds)
        return cls(request_id, caller, now, now, deadline, timeout_seconds)

    def end_receiving(self) -> None:
        """Note that no more of the body is read."""
        self.work_started = time.monotonic()

    def start_work(self) -> None:
        """Start the deadline anew: the body is complete."""
        self.end_receiving()
        self.deadline = Deadline(self.work_started + self.timeout_seconds)

    def elapsed_ms(self) -> float:
        """Milliseconds since the head of the request came in, receiving its body included."""
        return (time.monotonic() - self.started) * 1000


SERVICES: Final = web.AppKey("services", Services)
DOCUMENT: Final = web.AppKey("document", bytes)
CONTEXT: Final = web.RequestKey("context", RequestContext)


def context_of(request: web.Request) -> RequestContext:
    """Give the context that the middleware attached; the one place a caller comes from."""
    return request[CONTEXT]


def services_of(request: web.Request) -> Services:
    """Give the services of the app."""
    return request.app[SERVICES]


def read_options(request: web.Request, options: type[Options]) -> Options:
    """Read the query; raises InvalidRequestError naming the parameter that is wrong."""
    known = sorted(options.model_fields)
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            raise InvalidRequestError(unknown_name("query parameter", name, known))
        if name in values:
            raise InvalidRequestError(f"query parameter {name!r} is given twice")
        if "\0" in value:
            raise InvalidRequestError(f"query parameter {name!r} holds the character NUL")
        values[name] = value
    try:
        return options.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        message = f"query parameter {name!r}: {first['msg']} (got {values[name]!r:.100})"
        raise InvalidRequestError(message) from error


def unknown_name(kind: str, name: str, known: list[str]) -> str:
    """Say that a name is unknown, and which are known."""
    names = ", ".join(known) if known else "none"
    return f"unknown {kind} {name[:100]!r}; known: {names}"


def json_answer(answer: BaseModel, *, status: int = 200) -> web.Response:
    """Write an answer; fields that were left unset do not appear."""
    return web.Response(
        body=dump_json(answer), status=status, content_type="application/json", charset="utf-8"
    )


def dump_json(answer: BaseModel) -> bytes:
    """Serialise; arrays are written as they are, NaN as null."""
    return orjson.dumps(
        answer.model_dump(exclude_unset=True, by_alias=True), option=orjson.OPT_SERIALIZE_NUMPY
    )
