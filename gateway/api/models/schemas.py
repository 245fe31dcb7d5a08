"""Shapes of the JSON that the model routes return: stages, versions, a trial."""

from typing import Literal

from pydantic import Field

from gateway.api.shapes import Shape


class SourceOut(Shape):
    """The imported file."""

    file: str | None
    sha256: str | None


class RateOut(Shape):
    """Error rates at one threshold."""

    threshold: float
    fmr: float
    """False match rate: share of pairs of different people that match."""
    fnmr: float
    """False non-match rate: share of pairs of one person that do not match."""


class CalibrationOut(Shape):
    """Measured error rates of an embedding version."""

    source: str
    """Name of the file of labelled pairs."""
    same_pairs: int
    different_pairs: int
    made_at: str
    threshold: float | None
    """Threshold for FMR 0.001; null if there are too few pairs."""
    rates: list[RateOut]
    """Rates at FMR 0.1, 0.01, 0.001 and so on, as far as the pairs allow."""


class ReferenceOut(Shape):
    """Photos on which a version was measured, as the reference for drift."""

    photos: str
    faces: int
    made_at: str


class VersionOut(Shape):
    """A version of a stage; what the importer did not record is null."""

    version: str
    state: str
    reason: str
    id: str | None
    """Id by which answers name these weights; for the embedding stage it is the space."""
    sha256: str | None
    source: SourceOut | None
    network: str | None
    dimension: int | None
    space: str | None
    licence: str | None
    imported_at: str | None
    calibration: CalibrationOut | None = None
    reference: ReferenceOut | None = None


class StageOut(Shape):
    """A stage of the ensemble."""

    name: str
    backend: str
    serving: str | None
    """The version that answers new requests; null if none does."""
    versions: list[VersionOut]


class StagesOut(Shape):
    """All stages, in the order in which an image passes them."""

    request_id: str
    engine: str
    stages: list[StageOut]


class SideOut(Shape):
    """One of two versions during a trial; times cover its last 1000 answers."""

    version: str | None
    answered: int
    errors: dict[str, int]
    """Number of errors by code."""
    faces: int
    p50_ms: float | None
    p95_ms: float | None


class ComparedValuesOut(Shape):
    """One output of the faces that both versions found: absolute differences, or cosines."""

    mean: float | None
    least: float | None
    most: float | None
    lost: int
    """Faces that have it from the active version only."""


class ComparedOut(Shape):
    """Images that both versions analysed: means over the faces that both found."""

    images: int
    skipped: int
    """Images that only one version analysed, because the other was busy."""
    failed: int
    matched: int
    only_active: int
    only_candidate: int
    box_iou: float | None
    cosine_mean: float | None
    """Mean cosine similarity; null if the spaces differ."""
    cosine_min: float | None
    score_difference_mean: float | None
    """Mean absolute difference."""
    score_difference_max: float | None
    scores_lost: int
    """Faces that only the version in service rated."""
    further: dict[str, ComparedValuesOut] = Field(default_factory=dict)
    """By name: outputs of further stages."""


class TrialOut(Shape):
    """A version on trial."""

    trial: str
    stage: str
    version: str
    mode: Literal["canary", "shadow"]
    share: float
    by: Literal["request", "tenant"]
    since: str
    state: Literal["running", "stopped"]
    reason: str
    """Why the trial was stopped."""
    rates: bool
    """Whether the version gives scores; if not, it gets no requests for scores."""
    active: SideOut
    candidate: SideOut
    compared: ComparedOut


class CandidateOut(Shape):
    """The version on trial, as counted by this gateway process; null if there is none."""

    request_id: str
    trial: TrialOut | None
