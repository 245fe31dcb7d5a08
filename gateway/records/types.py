"""The records as frozen dataclasses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

MetadataValue = str | int | float | bool
FaceState = Literal["pending", "committed", "deleting"]
MigrationState = Literal["backfill", "verified", "switched", "failed"]


@dataclass(frozen=True, slots=True)
class CollectionSettings:
    """Settings of a collection.

    keep: `none`, or `crop`: the aligned faces, encrypted, so that they can be embedded anew.
    quality: gate of enrolment, see `collections/quality.py`.
    retention_days: faces are forgotten this long after enrolment; None: never.
    match_threshold: cosine from which a search matches; None: the setting of the gateway.
    requires_consent: no face is enrolled without a consent of its subject.
    """

    keep: Literal["none", "crop"] = "none"
    quality: Literal["off", "standard", "strict"] = "standard"
    retention_days: float | None = None
    match_threshold: float | None = None
    description: str = ""
    requires_consent: bool = False


@dataclass(frozen=True, slots=True)
class Migration:
    """A running move to another embedding space.

    source and target are spaces; `switched`: searches already ask the target, the source is kept
    for a rollback.
    """

    source: str
    target: str
    state: MigrationState
    total: int
    done: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CollectionRecord:
    """A collection; space and dimension are None before the first face.

    refusals: how often its list of faces that are not enrolled has changed.
    """

    id: str
    tenant: str
    name: str
    state: Literal["active", "deleting"]
    settings: CollectionSettings
    space: str | None
    dimension: int | None
    migration: Migration | None
    created_at: float
    updated_at: float
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class FaceRecord:
    """The journal line of one face; see `tables.FACES`."""

    id: str
    collection_id: str
    subject: str
    space: str
    created_at: float
    state: FaceState = "pending"
    copied_to: str | None = None
    image_sha256: str | None = None
    box: tuple[float, float, float, float] | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    detector: str | None = None
    expires_at: float | None = None

    @property
    def claim(self) -> str | None:
        """What an image gives once: itself and the subject, empty where nobody is named."""
        if self.image_sha256 is None:
            return None
        return f"{self.image_sha256}:{'' if self.subject == self.id else self.subject}"


@dataclass(frozen=True, slots=True)
class Begun:
    """The outcome of writing new faces.

    faces: those that are written as `pending`, in the order given. known: by claim, the faces
    that the same image has given this subject before; nothing was written for them. busy: another
    request is enrolling one of the images; nothing was written at all. pending: the faces that it
    has written so far. outdated: the list of faces that are not enrolled has changed since the new
    ones were compared with it; nothing was written.
    """

    faces: tuple[FaceRecord, ...] = ()
    known: Mapping[str, tuple[FaceRecord, ...]] = field(default_factory=dict)
    busy: bool = False
    pending: tuple[FaceRecord, ...] = ()
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Consent:
    """What a subject has agreed to, as a reference to where that is written; UTC seconds."""

    reference: str
    given_at: float
    expires_at: float | None = None
    withdrawn_at: float | None = None

    @property
    def ends_at(self) -> float | None:
        """When it ends: by its expiry or its withdrawal; None while neither is known."""
        ends = [at for at in (self.expires_at, self.withdrawn_at) if at is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms faces are enrolled.

    consent, purpose: to keep with their subjects; None keeps what is there. begun_at: what was
    erased since is not enrolled. requires_consent: nobody is enrolled without one. refusals: the
    change of the collection's list with which the faces were compared; None skips that.
    """

    consent: Consent | None = None
    purpose: str | None = None
    begun_at: float | None = None
    requires_consent: bool = False
    refusals: int | None = None


@dataclass(frozen=True, slots=True)
class SubjectRecord:
    """A person; faces: number of enrolled faces."""

    name: str
    display_name: str | None
    external_id: str | None
    metadata: Mapping[str, MetadataValue]
    created_at: float
    updated_at: float
    faces: int
    consent: Consent | None = None
    purpose: str | None = None


@dataclass(frozen=True, slots=True)
class SealedBytes:
    """Encrypted bytes; they open under the name with which they were sealed."""

    key_id: str
    nonce: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class SealedCrop:
    """An encrypted aligned face; its name is the id of the face."""

    face_id: str
    key_id: str
    nonce: bytes
    sealed: bytes

    @classmethod
    def of(cls, face_id: str, crop: SealedBytes) -> "SealedCrop":
        """Name the crop of a face."""
        return cls(face_id, crop.key_id, crop.nonce, crop.sealed)

    @property
    def bytes_only(self) -> SealedBytes:
        """The crop without its name."""
        return SealedBytes(self.key_id, self.nonce, self.sealed)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A line of the audit log, without image, vector, face id or subject.

    outcome: `ok`, or the code of the problem; None in lines from before it was noted.
    """

    at: float
    tenant: str
    actor: str
    action: str
    collection: str | None
    receipt: str
    counts: Mapping[str, int]
    request_id: str | None
    outcome: str | None = "ok"


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer under an idempotency key; status None while its request is running."""

    fingerprint: str
    status: int | None
    body: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """An idempotency key that a request has; token: another one once the key is taken over."""

    tenant: str
    key: str
    token: str


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer that is to be kept under its key, in the transaction that does the work.

    face_ids: of the faces that it names; it goes with the first of them that is deleted.
    """

    claim: Claim
    status: int
    body: str
    face_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """The latest clustering of a collection."""

    run_id: str
    collection_id: str
    state: Literal["running", "done", "failed"]
    threshold: float
    total: int
    done: int
    detail: str | None
    started_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of faces of a collection."""

    cluster_id: str
    size: int
    subjects: Mapping[str, int]
    faces: tuple[str, ...]


IDEMPOTENCY_SECONDS: Final = 86_400
"""How long an answer is kept."""
