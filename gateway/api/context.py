"""The services of the app and the context of a request; reading queries, writing JSON."""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Self, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.api.auth import UNRESOLVED_CALLER, Authorizer
from gateway.api.shapes import dump_json as dump_json
from gateway.cache.analyses import AnalysisCache
from gateway.collections.intake import Intake
from gateway.collections.service import Collections
from gateway.concurrency import CpuPool
from gateway.deadline import Deadline
from gateway.errors import InvalidRequestError
from gateway.inference.base import Inference
from gateway.jobs.service import Jobs
from gateway.jobs.uploads import Uploads
from gateway.kserve.upstream import TritonHttp
from gateway.monitoring.factory import Watch
from gateway.outbound.images import ImageFetcher
from gateway.pipeline import Pipeline
from gateway.registry.calibration import Calibrations
from gateway.registry.reference import References
from gateway.rollout.trials import Trials
from gateway.security.factory import Access
from gateway.security.limits.base import Standing
from gateway.security.limits.service import Admission, Limits
from gateway.settings import Settings
from gateway.telemetry.masking import has_secret
from gateway.telemetry.metrics import Metrics
from gateway.thresholds import Thresholds
from gateway.types import Caller

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""What aiohttp calls, and what middleware wraps."""
Options = TypeVar("Options", bound=BaseModel)

REQUEST_ID_HEADER: Final = "X-Request-ID"
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


def is_request_id(text: str) -> bool:
    """Whether the id that a caller gives its request is taken.

    One with a secret is not: ids are logged, and stored in the audit log.
    """
    return _REQUEST_ID.fullmatch(text) is not None and not has_secret(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What middleware and handlers call."""

    settings: Settings
    inference: Inference
    pipeline: Pipeline
    cpu_pool: CpuPool
    metrics: Metrics
    collections: Collections
    intake: Intake
    cache: AnalysisCache | None
    calibrations: Calibrations
    thresholds: Thresholds
    trials: Trials
    references: References
    watch: Watch
    kserve: TritonHttp
    jobs: Jobs
    uploads: Uploads
    fetcher: ImageFetcher
    authorizer: Authorizer
    access: Access
    limits: Limits


@dataclass(slots=True)
class AuditNotes:
    """What a request adds to its audit line; a path says the rest.

    receipt: id of the job that it makes. outcome: what was written, None so far.
    """

    collection: str | None = None
    receipt: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    outcome: str | None = None


@dataclass(slots=True)
class RequestContext:
    """What is known of a request before its handler runs; times on the monotonic clock.

    caller: unresolved until the middleware has authorized the request.
    started: when the head of the request arrived. work_started: when its body was complete or
    refused, from which the deadline counts; `started` for a request without a body.
    """

    request_id: str
    caller: Caller
    started: float
    work_started: float
    deadline: Deadline
    timeout_seconds: float
    notes: AuditNotes = field(default_factory=AuditNotes)
    admission: Admission | None = None
    """How the caller stands with its limits; None before it is known."""
    refused_standing: Standing | None = None
    """The same for a request that its limits refused."""

    @classmethod
    def begin(cls, request_id: str, *, timeout_seconds: float) -> Self:
        """Begin when the head of the request has arrived."""
        now = time.monotonic()
        deadline = Deadline(now + timeout_seconds)
        deadline.make_current()
        return cls(request_id, UNRESOLVED_CALLER, now, now, deadline, timeout_seconds)

    def end_receiving(self) -> None:
        """Note that nothing more of the body will be read."""
        self.work_started = time.monotonic()

    def start_work(self) -> None:
        """Restart the deadline, because the body is complete."""
        self.end_receiving()
        self.deadline = Deadline(self.work_started + self.timeout_seconds)
        self.deadline.make_current()

    def elapsed_ms(self) -> float:
        """Milliseconds since the head of the request arrived, including reception of its body."""
        return (time.monotonic() - self.started) * 1000


SERVICES: Final = web.AppKey("services", Services)
DOCUMENT: Final = web.AppKey("document", bytes)
CONTEXT: Final = web.RequestKey("context", RequestContext)


def context_of(request: web.Request) -> RequestContext:
    """Return the context that the middleware attached."""
    return request[CONTEXT]


def services_of(request: web.Request) -> Services:
    """Return the services of the app."""
    return request.app[SERVICES]


def read_options(request: web.Request, options: type[Options]) -> Options:
    """Read the query; raises InvalidRequestError that names the invalid parameter."""
    known = sorted(options.model_fields)
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            raise InvalidRequestError(unknown_name("query parameter", name, known))
        if name in values:
            raise InvalidRequestError(f"query parameter {name!r} is given twice")
        if "\0" in value:
            raise InvalidRequestError(f"query parameter {name!r} contains the character NUL")
        values[name] = value
    try:
        return options.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        message = f"query parameter {name!r}: {first['msg']} (got {values[name]!r:.100})"
        raise InvalidRequestError(message) from error


def unknown_name(kind: str, name: str, known: list[str]) -> str:
    """Describe an unknown name and list the known ones."""
    names = ", ".join(known) if known else "none"
    return f"unknown {kind} {name[:100]!r}; known: {names}"


def json_answer(answer: BaseModel, *, status: int = 200) -> web.Response:
    """Write a JSON answer; fields that were left unset do not appear."""
    return web.Response(
        body=dump_json(answer), status=status, content_type="application/json", charset="utf-8"
    )
