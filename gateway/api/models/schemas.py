"""JSON out of the model routes: stages, versions, a trial."""

from typing import Literal

from pydantic import Field

from gateway.api.shapes import Shape


class SourceOut(Shape):
    """The file that was imported."""

    file: str | None
    sha256: str | None


class RateOut(Shape):
    """Error rates at one threshold."""

    threshold: float
    fmr: float
    """Share of pairs of different people that match."""
    fnmr: float
    """Share of pairs of one person that do not match."""


class CalibrationOut(Shape):
    """What was measured with an embedding version."""

    source: str
    """Name of the file of labelled pairs."""
    same_pairs: int
    different_pairs: int
    made_at: str
    threshold: float | None
    """For FMR 0.001; null if there are too few pairs."""
    rates: list[RateOut]
    """At FMR 0.1, 0.01, 0.001 and so on, as far as the pairs allow."""


class ReferenceOut(Shape):
    """Photos on which a version was measured, and against which drift is measured."""

    photos: str
    faces: int
    made_at: str


class VersionOut(Shape):
    """One version of a stage; what the importer did not write down is null."""

    version: str
    state: str
    reason: str
    id: str | None
    """By which answers name these weights; of the embedding stage: the space."""
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
    """One stage of the ensemble."""

    name: str
    backend: str
    serving: str | None
    """The version that a new request meets; null if none answers."""
    versions: list[VersionOut]


class StagesOut(Shape):
    """All stages, in the order in which an image passes them."""

    request_id: str
    engine: str
    stages: list[StageOut]


class SideOut(Shape):
    """One version while another is tried; times are of the last 1000 answers."""

    version: str | None
    answered: int
    errors: dict[str, int]
    """By code."""
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
    """Images that both versions saw: means over the faces that both found."""

    images: int
    skipped: int
    """Only one version saw them, as the other was busy."""
    failed: int
    matched: int
    only_active: int
    only_candidate: int
    box_iou: float | None
    cosine_mean: float | None
    """Null where the spaces differ."""
    cosine_min: float | None
    score_difference_mean: float | None
    """Of absolute differences."""
    score_difference_max: float | None
    scores_lost: int
    """Faces that only the version in service rates."""
    further: dict[str, ComparedValuesOut] = Field(default_factory=dict)
    """By name: outputs of further stages."""


class TrialOut(Shape):
    """A version being tried."""

    trial: str
    stage: str
    version: str
    mode: Literal["canary", "shadow"]
    share: float
    by: Literal["request", "tenant"]
    since: str
    state: Literal["running", "stopped"]
    reason: str
    """Why it was stopped."""
    rates: bool
    """Whether scores come out; if not, requests for scores are not given to it."""
    active: SideOut
    candidate: SideOut
    compared: ComparedOut


class CandidateOut(Shape):
    """What is being tried, as this gateway process has counted it; null if nothing is."""

    request_id: str
    trial: TrialOut | None
