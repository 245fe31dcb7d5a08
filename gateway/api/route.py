"""The declaration of a route: all that the gateway and the OpenAPI document know of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from gateway.api.audit import Audit
from gateway.api.auth import Permission
from gateway.api.body import BodySpec
from gateway.api.call import RouteHandler
from gateway.api.idempotency import Idempotency
from gateway.api.shapes import NoOptions


@dataclass(frozen=True, slots=True)
class Bodies:
    """Bodies that a handler reads itself, by media type; None for bytes without a shape."""

    shapes: Mapping[str, type[BaseModel] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route, declared once."""

    method: str
    path: str
    handler: RouteHandler
    permission: Permission
    """What a caller must be allowed to do; checked before the body is read."""
    tag: str
    summary: str
    description: str
    responses: Mapping[int, type[BaseModel] | None]
    """JSON body by status; None where the answer is no JSON, but of type `media`."""
    options: type[BaseModel] | None = NoOptions
    """Query parameters; None ignores the query."""
    fields: BodySpec | Bodies | None = None
    """Body; fields of a spec without required images may come in the query, too."""
    errors: tuple[str, ...] = ()
    """Codes of its problems, beside those of every route."""
    media: str = "application/json"
    """Media type of its answers."""
    more_media: tuple[str, ...] = ()
    """Media types of the same answers as bytes."""
    idempotency: Idempotency | None = None
    """Honour `Idempotency-Key`; None ignores it."""
    audit: Audit | None = None
    """How it is recorded in the audit log; None for what neither changes nor reads what is stored
    about people."""
    own_time: bool = False
    """The handler limits its time itself: it receives a body, streams, waits as long as the caller
    asked for, or carries a large deletion to its end. Every other one ends at the deadline of the
    request."""
