"""What is said of a route."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from gateway.api.body import BodySpec
from gateway.api.context import Handler
from gateway.api.shapes import NoOptions


@dataclass(frozen=True, slots=True)
class Bodies:
    """Bodies that a handler reads itself, by media type; None: bytes."""

    shapes: Mapping[str, type[BaseModel] | None]


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    answers: JSON body by status; None: no JSON (`media` names the type). errors: codes that it may
    answer with beside those that any route may. more_media: types of the same answer as bytes.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    description: str
    answers: dict[int, type[BaseModel] | None]
    options: type[BaseModel] = NoOptions
    fields: BodySpec | Bodies | None = None
    errors: tuple[str, ...] = ()
    media: str = "application/json"
    more_media: tuple[str, ...] = ()
