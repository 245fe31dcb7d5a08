"""Shapes of the JSON that the health routes return."""

from typing import Literal

from pydantic import Field

from gateway.api.shapes import Shape


class LiveOut(Shape):
    """The process answers."""

    status: Literal["live"]


class StateOut(Shape):
    """A version of a stage, as the engine reports it."""

    version: str
    state: str
    reason: str


class PartOut(Shape):
    """A component; one that can be `degraded` does not affect readiness."""

    status: Literal["ready", "degraded", "unready"]
    detail: str
    """Empty for a caller without a key."""
    version: str | None = None
    """The version of a stage that answers; null if none does."""
    versions: list[StateOut] = Field(default_factory=list)
    """All versions of a stage that the engine knows."""


class ReadyOut(Shape):
    """Whether the service is ready, and the state of each component.

    It is `degraded` while only the fallback engine answers, which is slower, `starting` until the
    stores answer, and `stopping` before it ends.
    """

    status: Literal["ready", "degraded", "unready", "starting", "stopping"]
    parts: dict[str, PartOut]
