"""The tables. Times are seconds since 1970, UTC; ids are text.

`migrations/versions/` makes them; `tests/contract/test_records.py` compares the two.
"""

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def collection_column(*, primary_key: bool = False) -> Column[str]:
    """Make the column of rows that are removed with their collection."""
    owner = ForeignKey("collections.id", ondelete="CASCADE")
    return Column("collection_id", String(36), owner, primary_key=primary_key, nullable=False)


def sealed_columns(*, nullable: bool = False) -> tuple[Column[Any], ...]:
    """Make the columns of something encrypted: with which key, its nonce and its bytes."""
    return (
        Column("key_id", String(32), nullable=nullable),
        Column("nonce", LargeBinary, nullable=nullable),
        Column("sealed", LargeBinary, nullable=nullable),
    )


COLLECTIONS: Final = Table(
    "collections",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("space", String(16)),
    Column("dimension", Integer),
    Column("migration", JSON),
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("tenant", "name"),
)
"""state: `active`, or `deleting` while its vectors are being removed. refusals: number of
changes of its list of faces that are not enrolled."""
_SELDOM: Final = text("state <> 'committed'")
"""Nearly all faces are committed: an index on them would be useless, but SQLite would prefer it."""
_ENDS: Final = text("expires_at IS NOT NULL")
_SEALED: Final = text("metadata_key_id IS NOT NULL")

FACES: Final = Table(
    "faces",
    METADATA,
    Column("id", String(36), primary_key=True),
    collection_column(),
    # SQLite neither looks at the length of before nor can change it
    Column("subject", String(128).with_variant(String(64), "sqlite"), nullable=False),
    Column("space", String(16), nullable=False),
    Column("copied_to", String(16)),
    Column("state", String(16), nullable=False),
    Column("image_sha256", String(64)),
    Column("box", JSON),
    Column("quality", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("detector", String(16)),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("kept_until", Double),
    Column("claim", String(200)),
    Column("metadata_key_id", String(32)),
    Column("owner", String(32)),
    Index(None, "collection_id", "created_at", "id"),
    Index(None, "collection_id", "subject"),
    Index(None, "collection_id", "image_sha256"),
    Index(None, "state", sqlite_where=_SELDOM, postgresql_where=_SELDOM),
    Index(None, "expires_at"),
    Index(None, "collection_id", "expires_at", sqlite_where=_ENDS, postgresql_where=_ENDS),
    Index(None, "collection_id", "claim", unique=True),
    Index(None, "metadata_key_id", sqlite_where=_SEALED, postgresql_where=_SEALED),
)
"""The journal of enrolment. state: `pending` until its vector is on the disk, then `committed`,
`deleting` while it is being forgotten. kept_until: the end of the collection's retention;
expires_at: that, or the end of the subject's consent if it is earlier. copied_to: the space a
migration has embedded it in, too. claim: `image:subject` (`image:` without a subject) on the first
face that an enrolment took from an image, so that the same image is remembered once; given up when
the face is forgotten or over. metadata_key_id: the key with which the metadata is sealed, empty
where it is not. owner: the process that enrolled it."""

SUBJECTS: Final = Table(
    "subjects",
    METADATA,
    collection_column(primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("display_name", String(200)),
    Column("external_id", String(128)),
    Column("metadata", JSON, nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("search_text", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("metadata_key_id", String(32)),
    Index(None, "metadata_key_id", sqlite_where=_SEALED, postgresql_where=_SEALED),
    Column("purpose", String(200)),
    Column("consent_reference", String(200)),
    Column("consent_given_at", Double),
    Column("consent_expires_at", Double),
    Column("consent_withdrawn_at", Double),
    Column("consent_ends_at", Double),
    Index(None, "consent_ends_at"),
)
"""Whom faces show. kept: somebody wrote something into it, so that it stays without a face.
search_text: names and external id as `subjects.fold` writes them. consent_ends_at: the earlier of
its expiry and its withdrawal."""

CROPS: Final = Table(
    "crops",
    METADATA,
    Column("face_id", String(36), ForeignKey("faces.id", ondelete="CASCADE"), primary_key=True),
    *sealed_columns(),
)
"""Aligned faces of collections with `keep=crop`, encrypted."""

IDEMPOTENCY: Final = Table(
    "idempotency",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer),
    Column("body", Text),
    Column("created_at", Double, nullable=False),
    Column("owner", String(32)),
    Column("token", String(32)),
    Index(None, "created_at"),
)
"""Answers by `Idempotency-Key`; status is empty while the first request is under way, body once
a face that it names was forgotten. owner: the process that carries the request out. token: of the
request, which alone may write the answer; another one when the key is taken over."""

ANSWERED_FACES: Final = Table(
    "answered_faces",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("face_id", String(36), primary_key=True),
    ForeignKeyConstraint(
        ["tenant", "key"], ["idempotency.tenant", "idempotency.key"], ondelete="CASCADE"
    ),
    Index(None, "face_id"),
)
"""Faces that a kept answer names."""

_EXPIRY: Final = text("expired_through IS NOT NULL")
AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Double, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("collection", String(64)),
    Column("receipt", String(36), nullable=False),
    Column("counts", JSON, nullable=False),
    Column("request_id", String(64)),
    Column("outcome", String(64)),
    Column("expired_through", BigInteger),
    Column("expired_hash", String(64)),
    Column("key_id", String(16)),
    Column("prev", String(64), nullable=False, server_default=""),
    Column("hash", String(64), nullable=False, server_default=""),
    Index(None, "tenant", "at"),
    Index(None, "expired_through", sqlite_where=_EXPIRY, postgresql_where=_EXPIRY),
)
"""Audit log: who did what to how many faces, when, and with which outcome (`ok`, or the code of the
problem; empty in lines from before it was noted). It has no image, crop, vector, face id, subject
or metadata. prev, hash, key_id: the chain, see `audit_chain`; key_id is empty for plain SHA-256.
expired_through, expired_hash: of a line which says that the lines up to another one have expired;
the database lets only those be deleted, and none be changed."""

CLUSTER_RUNS: Final = Table(
    "cluster_runs",
    METADATA,
    collection_column(primary_key=True),
    Column("run_id", String(36), nullable=False),
    Column("state", String(16), nullable=False),
    Column("threshold", Double, nullable=False),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("detail", Text),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),
)
"""The latest run of a collection. state: `running`, `done`, `failed`."""

CLUSTER_MEMBERS: Final = Table(
    "cluster_members",
    METADATA,
    Column("face_id", String(36), ForeignKey("faces.id", ondelete="CASCADE"), primary_key=True),
    Column("collection_id", String(36), nullable=False),
    Column("cluster_id", String(36), nullable=False),
    Index(None, "collection_id", "cluster_id"),
)
"""The cluster of each face in the latest finished run."""

SCHEMA_SUPPORT: Final = Table(
    "schema_support",
    METADATA,
    Column("oldest_code", String(4), primary_key=True),
)
"""One row: the newest migration that a release must know in order to use these tables."""

PROCESSES: Final = Table(
    "processes",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("lease_until", Double, nullable=False),
)
"""Processes that have begun something. lease_until: by the clock of the database; afterwards others
may take over."""
