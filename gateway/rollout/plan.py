"""The plan of a trial, and which requests the candidate answers.

The plan is stored in the configuration of the candidate's ensemble, so that every gateway reads it
from its Triton, without a shared disk.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.types import DEFAULT_TENANT, ActiveVersions, Need, Weights
from triton_python_backend.needs import networks_for

_RANGE: Final = 1 << 64


class Plan(BaseModel):
    """What is tried, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    trial: str
    """Id; changes with every change of the plan."""
    stage: str
    version: int = Field(ge=1)
    mode: Literal["canary", "shadow"]
    share: float = Field(gt=0, le=1)
    """Of the requests; in the shadow every request is eligible."""
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
    """A version on trial, as Triton serves it now.

    lacks: needs whose outputs do not come out of it, such as scores where head and space do not
    fit.
    """

    plan: Plan
    weights: Weights
    lacks: Need = Need.NOTHING_MORE

    @property
    def rates(self) -> bool:
        """Whether scores come out of it."""
        return Need.SCORE not in self.lacks

    def concerns(self, need: Need) -> bool:
        """Whether its answer to a need could differ, and would be complete."""
        return not need & self.lacks and self.plan.stage in networks_for(need)

    def answers(self, identity: RequestIdentity, need: Need) -> bool:
        """Whether it, and not the active version, answers this request."""
        plan = self.plan
        if plan.mode != "canary" or not self.concerns(need):
            return False
        known = plan.by == "tenant" and identity.tenant != DEFAULT_TENANT
        return in_share(plan, identity.tenant if known else identity.request_id)

    def among(self, weights: ActiveVersions) -> ActiveVersions:
        """Put its weights in the place of its stage's active ones."""
        return {**weights, self.plan.stage: self.weights}


def in_share(plan: Plan, key: str) -> bool:
    """Whether a key belongs to the share; deterministic for a version and share.

    A growing share keeps its keys; another version gets other keys.
    """
    text = f"{plan.stage}/{plan.version}/{key}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
    return number < plan.share * _RANGE
