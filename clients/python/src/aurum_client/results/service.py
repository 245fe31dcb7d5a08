"""The service itself: health, the stages in service, the version on trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True)
class Liveness:
    """The process answers."""

    status: str


@dataclass(frozen=True)
class VersionState:
    """A version of a stage, as the engine reports it."""

    version: str
    state: str
    reason: str


@dataclass(frozen=True)
class Component:
    """A component of the service; one that can be `degraded` does not affect readiness."""

    status: str
    """`ready`, `degraded` or `unready`."""
    detail: str
    version: Optional[str] = None
    """The version of a stage that answers; None if none does."""
    versions: tuple[VersionState, ...] = ()
    """All versions of a stage that the engine knows."""


@dataclass(frozen=True)
class Readiness:
    """Whether the service is ready, and the state of each component."""

    status: str
    """`ready`, `degraded` (only the fallback engine answers), `unready`, `starting`, `stopping`."""
    parts: Mapping[str, Component]

    @property
    def is_ready(self) -> bool:
        """Whether the service answers."""
        return self.status in ("ready", "degraded")


@dataclass(frozen=True)
class Source:
    """The file that a version was imported from."""

    file: Optional[str]
    sha256: Optional[str]


@dataclass(frozen=True)
class ErrorRates:
    """Error rates at one threshold."""

    threshold: float
    fmr: float
    """False match rate: share of pairs of different people that match."""
    fnmr: float
    """False non-match rate: share of pairs of one person that do not match."""


@dataclass(frozen=True)
class Calibration:
    """Measured error rates of an embedding version."""

    source: str
    """Name of the file of labelled pairs."""
    same_pairs: int
    different_pairs: int
    made_at: str
    threshold: Optional[float]
    """Threshold for FMR 0.001; None if there are too few pairs."""
    rates: tuple[ErrorRates, ...]


@dataclass(frozen=True)
class DriftReference:
    """Photos on which a version was measured, as the reference for drift."""

    photos: str
    faces: int
    made_at: str


@dataclass(frozen=True)
class StageVersion:
    """A version of a stage; what the importer did not record is None."""

    version: str
    state: str
    reason: str
    id: Optional[str]
    """Id by which answers name these weights; for the embedding stage it is the space."""
    sha256: Optional[str]
    source: Optional[Source]
    network: Optional[str]
    dimension: Optional[int]
    space: Optional[str]
    licence: Optional[str]
    imported_at: Optional[str]
    calibration: Optional[Calibration] = None
    reference: Optional[DriftReference] = None


@dataclass(frozen=True)
class Stage:
    """A stage of the ensemble."""

    name: str
    backend: str
    serving: Optional[str]
    """The version that answers new requests; None if none does."""
    versions: tuple[StageVersion, ...]


@dataclass(frozen=True)
class Stages:
    """All stages, in the order in which an image passes them."""

    request_id: str
    engine: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class TrialSide:
    """One of two versions during a trial; times cover its last 1000 answers."""

    version: Optional[str]
    answered: int
    errors: Mapping[str, int]
    """Number of errors by code."""
    faces: int
    p50_ms: Optional[float]
    p95_ms: Optional[float]


@dataclass(frozen=True)
class ComparedValues:
    """One output of the faces that both versions found: absolute differences, or cosines."""

    mean: Optional[float]
    least: Optional[float]
    most: Optional[float]
    lost: int
    """Faces that have it from the active version only."""


@dataclass(frozen=True)
class Comparison:
    """Images that both versions analysed: means over the faces that both found."""

    images: int
    skipped: int
    failed: int
    matched: int
    only_active: int
    only_candidate: int
    box_iou: Optional[float]
    cosine_mean: Optional[float]
    """None if the spaces differ."""
    cosine_min: Optional[float]
    score_difference_mean: Optional[float]
    score_difference_max: Optional[float]
    scores_lost: int
    further: Mapping[str, ComparedValues] = field(default_factory=dict)
    """By name: outputs of further stages."""


@dataclass(frozen=True)
class Trial:
    """A version on trial."""

    trial: str
    stage: str
    version: str
    mode: str
    """`canary` or `shadow`."""
    share: float
    by: str
    """`request` or `tenant`."""
    since: str
    state: str
    """`running` or `stopped`."""
    reason: str
    """Why the trial was stopped."""
    rates: bool
    """Whether the version gives scores."""
    active: TrialSide
    candidate: TrialSide
    compared: Comparison


@dataclass(frozen=True)
class Candidate:
    """The version on trial, as counted by one gateway process; None if there is none."""

    request_id: str
    trial: Optional[Trial]
