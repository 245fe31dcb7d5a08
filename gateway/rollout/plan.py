"""The plan of a trial, and which requests it gives to the candidate.

The plan travels in the configuration of the candidate's ensemble, so that every gateway learns it
from the Triton that it asks, without a shared disk.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.types import DEFAULT_TENANT, InService, Need, Weights
from triton_python_backend import contract

_RANGE: Final = 1 << 64


class Plan(BaseModel):
    """What is tried, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    trial: str
    """Id; another one with every change of the plan."""
    stage: str
    version: int = Field(ge=1)
    mode: Literal["canary", "shadow"]
    share: float = Field(gt=0, le=1)
    """Of the requests; in the shadow all of them are looked at."""
    by: Literal["request", "tenant"] = "request"
    """Which id decides: of the request or of its tenant. Callers without a tenant are routed by
    request."""
    since: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Identity of a request for canary routing."""

    request_id: str
    tenant: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version being tried, as Triton serves it now.

    rates: whether scores come out of it; they do not where head and space do not fit.
    """

    plan: Plan
    weights: Weights
    rates: bool

    def concerns(self, need: Need) -> bool:
        """Whether its answer to a need could differ, and would be whole."""
        if Need.SCORE in need and not self.rates:
            return False
        if self.plan.stage == contract.DETECTION.name:
            return True
        if self.plan.stage == contract.SCORING.name:
            return Need.SCORE in need
        return Need.SCORE in need or Need.EMBEDDING in need

    def answers(self, identity: RequestIdentity, need: Need) -> bool:
        """Whether it, and not the version in service, answers this request."""
        plan = self.plan
        if plan.mode != "canary" or not self.concerns(need):
            return False
        known = plan.by == "tenant" and identity.tenant != DEFAULT_TENANT
        return in_share(plan, identity.tenant if known else identity.request_id)

    def among(self, weights: InService) -> InService:
        """The weights in service, but for its own stage."""
        field = self.plan.stage.removeprefix("face_")
        return replace(weights, **{field: self.weights})


def in_share(plan: Plan, key: str) -> bool:
    """Whether a key belongs to the share: always the same answer for a version and share.

    A share that grows keeps the keys that it had; another version has other keys.
    """
    text = f"{plan.stage}/{plan.version}/{key}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
    return number < plan.share * _RANGE
