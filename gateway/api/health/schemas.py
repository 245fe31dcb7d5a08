"""JSON out of the health routes."""

from typing import Literal

from pydantic import Field

from gateway.api.shapes import Shape


class LiveOut(Shape):
    """The process answers."""

    status: Literal["live"]


class StateOut(Shape):
    """A version of a stage, in the engine's words."""

    version: str
    state: str
    reason: str


class PartOut(Shape):
    """One part; readiness does not depend on one that may be `degraded`."""

    status: Literal["ready", "degraded", "unready"]
    detail: str
    version: str | None = None
    """Of a stage: the version that answers; null if none does."""
    versions: list[StateOut] = Field(default_factory=list)
    """Of a stage: all that the engine knows of."""


class ReadyOut(Shape):
    """Whether every part is ready."""

    status: Literal["ready", "unready"]
    parts: dict[str, PartOut]
