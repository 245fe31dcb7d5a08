"""A request as a handler receives it, and the answer that it returns."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from aiohttp import web
from pydantic import BaseModel

from gateway.api.body import Body
from gateway.api.context import RequestContext, Services, json_answer
from gateway.deadline import Deadline
from gateway.records.types import KeptAnswer
from gateway.types import Caller

Options = TypeVar("Options", bound=BaseModel)
Fields = TypeVar("Fields", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer; fields that were left unset do not appear in it."""

    shape: BaseModel
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """Write the answer."""
        response = json_answer(self.shape, status=self.status)
        response.headers.update(self.headers)
        return response


Keep = Callable[[Answer], KeptAnswer]


@dataclass(frozen=True, slots=True)
class Call(Generic[Options, Fields]):
    """A request whose caller, query and body were checked as its route declares."""

    request: web.Request
    context: RequestContext
    services: Services
    options: Options
    """Query parameters."""
    body: Body[Fields]
    keep: Keep | None = None
    """Makes of an answer what the handler's last transaction keeps under the request's key."""

    @property
    def fields(self) -> Fields:
        """Fields of the body."""
        return self.body.fields

    @property
    def caller(self) -> Caller:
        """On whose behalf the request is answered."""
        return self.context.caller

    @property
    def request_id(self) -> str:
        """Id of the request."""
        return self.context.request_id

    @property
    def deadline(self) -> Deadline:
        """When the request must be answered."""
        return self.context.deadline

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return self.request.match_info[name]


RouteHandler = Callable[[Call[Any, Any]], Awaitable[Answer | web.StreamResponse]]
"""What answers a route: JSON as `Answer`, anything else as a response of its own."""
