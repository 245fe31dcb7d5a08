"""Collections, enrolled faces, subjects, searches, deletions, clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from aurum_client.results.faces import Box, Quality


@dataclass(frozen=True)
class Migration:
    """A move to another embedding space."""

    source: str
    target: str
    state: str
    """`backfill`, `verified`, `switched` or `failed`."""
    total: int
    done: int
    detail: str
    """Why the move failed."""


@dataclass(frozen=True)
class Collection:
    """A collection of people."""

    name: str
    description: str
    keep: str
    """`crop` if aligned faces are stored, else `none`."""
    quality: str
    """Lowest quality of faces that are enrolled: `off`, `standard` or `strict`."""
    retention_days: Optional[float]
    """Days after which an enrolled face is deleted; None keeps it."""
    match_threshold: Optional[float]
    """Lowest cosine similarity of a match; None uses the service's threshold."""
    requires_consent: bool
    """Whether nobody is enrolled without consent."""
    faces: int
    subjects: int
    space: Optional[str]
    """Embedding space of its faces; None before the first face."""
    dimension: Optional[int]
    migration: Optional[Migration]
    created_at: datetime
    updated_at: datetime
    request_id: Optional[str] = None
    """None for an entry of a list."""


@dataclass(frozen=True)
class CollectionPage:
    """A page of collections, sorted by name."""

    request_id: str
    next_cursor: Optional[str]
    collections: tuple[Collection, ...]


@dataclass(frozen=True)
class EnrolledFace:
    """A face of an enrolment."""

    face_id: str
    subject: str
    index: int
    """Index of its image or embedding in the request, from 0."""
    duplicate: bool
    """Whether the same image was enrolled for this subject before."""
    faces_found: Optional[int]
    """Number of faces in the image; None for an embedding."""
    box: Optional[Box]
    quality: Optional[Quality]
    metadata: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class RejectedImage:
    """An image, or a face of it, that was not enrolled."""

    index: int
    name: Optional[str]
    """File name that was sent."""
    code: str
    detail: str
    reasons: tuple[str, ...]
    """Why the quality of the face is too low."""
    box: Optional[Box]


@dataclass(frozen=True)
class Enrolment:
    """Enrolled faces and rejected images."""

    request_id: str
    faces: tuple[EnrolledFace, ...]
    rejected: tuple[RejectedImage, ...]
    space: Optional[str]


@dataclass(frozen=True)
class FaceRecord:
    """An enrolled face, as it is stored."""

    face_id: str
    subject: str
    box: Optional[Box]
    quality: Optional[Quality]
    metadata: Mapping[str, Any]
    image_sha256: Optional[str]
    space: str
    detector: Optional[str]
    created_at: datetime
    expires_at: Optional[datetime]


@dataclass(frozen=True)
class FacePage:
    """A page of enrolled faces, oldest first."""

    request_id: str
    next_cursor: Optional[str]
    faces: tuple[FaceRecord, ...]


@dataclass(frozen=True)
class Match:
    """An enrolled face that is similar to the searched one."""

    subject: str
    face_id: str
    similarity: float
    """Cosine similarity, -1 to 1."""
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class SearchedFace:
    """A face of the probe and its matches, most similar first; empty without a match."""

    box: Optional[Box]
    quality: Optional[Quality]
    matches: tuple[Match, ...]


@dataclass(frozen=True)
class SearchResult:
    """Faces of the probe and their matches."""

    request_id: str
    faces: tuple[SearchedFace, ...]
    faces_found: Optional[int]
    """Number of faces in the image; None for an embedding."""
    rotation: Optional[int]
    """Degrees by which the image was turned clockwise; None for an embedding."""
    threshold: float
    space: Optional[str]


@dataclass(frozen=True)
class Receipt:
    """What was deleted."""

    request_id: str
    receipt: str
    """Id of the entry in the audit log."""
    at: datetime
    faces: int
    vectors: int
    crops: int
    cached_answers: int
    job_results: int
    """Results of jobs about the faces."""


@dataclass(frozen=True)
class Consent:
    """What a subject has agreed to."""

    reference: str
    """Where it is written."""
    given_at: datetime
    expires_at: Optional[datetime]
    withdrawn_at: Optional[datetime]


@dataclass(frozen=True)
class Subject:
    """A person whose faces are enrolled."""

    subject: str
    display_name: Optional[str]
    external_id: Optional[str]
    metadata: Mapping[str, Any]
    consent: Optional[Consent]
    purpose: Optional[str]
    faces: int
    created_at: datetime
    updated_at: datetime
    request_id: Optional[str] = None
    """None for an entry of a list."""


@dataclass(frozen=True)
class SubjectPage:
    """A page of subjects, sorted by name."""

    request_id: str
    next_cursor: Optional[str]
    subjects: tuple[Subject, ...]


@dataclass(frozen=True)
class Progress:
    """Faces of a run, and how many are done."""

    total: int
    done: int


@dataclass(frozen=True)
class ClusterRun:
    """A run of clustering."""

    request_id: str
    run_id: str
    state: str
    """`running`, `done` or `failed`."""
    threshold: float
    progress: Progress
    detail: Optional[str]
    """Why it failed."""
    started_at: datetime
    finished_at: Optional[datetime]


@dataclass(frozen=True)
class Cluster:
    """One identity."""

    cluster_id: str
    """Stays the same from run to run as long as most of its faces stay together."""
    size: int
    subjects: Mapping[str, int]
    """Number of its faces by subject."""
    faces: tuple[str, ...]
    """Ids of at most 100 of its faces."""


@dataclass(frozen=True)
class ClusterPage:
    """The latest run, and a page of the clusters of the latest finished one."""

    request_id: str
    next_cursor: Optional[str]
    run_id: str
    state: str
    threshold: float
    progress: Progress
    detail: Optional[str]
    started_at: datetime
    finished_at: Optional[datetime]
    clusters: tuple[Cluster, ...]
