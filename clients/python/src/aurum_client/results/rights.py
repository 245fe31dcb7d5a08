"""A person across collections, receipts of erasures, do-not-enrol lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from aurum_client.results.collections import Consent


@dataclass(frozen=True)
class Candidate:
    """A subject that may be the person."""

    collection: str
    subject: str
    display_name: Optional[str]
    external_id: Optional[str]
    metadata: Mapping[str, Any]
    consent: Optional[Consent]
    purpose: Optional[str]
    faces: int
    created_at: datetime
    updated_at: datetime
    similarity: Optional[float]
    """Cosine similarity of the most similar face; None where a name was asked for."""


@dataclass(frozen=True)
class FoundPeople:
    """Subjects that may be the person, most similar first."""

    request_id: str
    people: tuple[Candidate, ...]
    not_searched: tuple[str, ...]
    """Collections of an embedding model that is not in service."""


@dataclass(frozen=True)
class ErasedSubject:
    """What was deleted of a subject."""

    collection: str
    subject: str
    receipt: str
    faces: int
    vectors: int
    crops: int
    cached_answers: int
    job_results: int
    do_not_enrol: tuple[str, ...]
    """Ids of entries that were added to the list of the collection."""


@dataclass(frozen=True)
class Remain:
    """What is left after an erasure, and for how long."""

    what: str
    until: Optional[datetime]
    why: str


@dataclass(frozen=True)
class ErasureReceipt:
    """Receipt of an erasure."""

    request_id: str
    receipt: str
    """Id of the entry in the audit log."""
    at: datetime
    erased: tuple[ErasedSubject, ...]
    remains: tuple[Remain, ...]


@dataclass(frozen=True)
class RefusedFace:
    """An entry of a do-not-enrol list."""

    entry_id: str
    reason: str
    created_at: datetime
    created_by: str
    space: str
    has_crop: bool
    """Whether it can move to another embedding space."""
    compared: bool
    """Whether new faces are compared with it; if not, add the face again."""
    request_id: Optional[str] = None
    """None for an entry of a list."""


@dataclass(frozen=True)
class RefusedFaces:
    """Entries that were added."""

    request_id: str
    entries: tuple[RefusedFace, ...]


@dataclass(frozen=True)
class RefusedPage:
    """A page of a do-not-enrol list, oldest first."""

    request_id: str
    next_cursor: Optional[str]
    entries: tuple[RefusedFace, ...]
