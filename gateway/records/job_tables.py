"""The tables of jobs; see `tables.py`.

A transaction that changes a job or its images locks the job's row first: counts, sequence and
state of a job change together with its images.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from gateway.records.tables import METADATA, sealed_columns

_DUE: Final = text("webhook_state = 'due'")
_OPEN: Final = text("state <> 'ended'")
_LEASED: Final = text("state = 'leased'")

JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("actor", String(64), nullable=False),
    Column("operation", String(16), nullable=False),
    Column("options", JSON, nullable=False),
    Column("collection_id", String(36)),
    Column("collection", String(64)),
    Column("state", String(16), nullable=False),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("served", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("expires_at", Double),
    Column("retention_seconds", Double, nullable=False),
    Column("webhook_url", Text),
    Column("webhook_state", String(8), nullable=False),
    Column("webhook_attempts", Integer, nullable=False),
    Column("webhook_at", Double),
    Index(None, "tenant", "created_at", "id"),
    Index(None, "state", "expires_at"),
    Index(None, "collection_id"),
    Index(None, "webhook_at", sqlite_where=_DUE, postgresql_where=_DUE),
)
"""Jobs of many images. state: `receiving` until all images are there; `queued`, `running`,
`paused`; `done`, `cancelled`; `expired` once its images and results are gone. served: the turn in
which it was last served; see `JOB_TENANTS`."""

JOB_ITEMS: Final = Table(
    "job_items",
    METADATA,
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("object_key", String(200)),
    Column("size", Integer, nullable=False),
    Column("state", String(8), nullable=False),
    Column("available_at", Double, nullable=False),
    Column("lease", Integer, nullable=False),
    Column("worker", String(128)),
    Column("attempts", Integer, nullable=False),
    Column("lost", Integer, nullable=False),
    Column("code", String(64)),
    Column("detail", Text),
    Index(None, "job_id", "available_at", "index", sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index(None, "worker", sqlite_where=_LEASED, postgresql_where=_LEASED),
    Index(None, "sha256"),
)
"""Images of jobs. state: `queued`, `leased`, `ended`. available_at: from when a worker may claim
it: 0 if it never was claimed; of a leased one, when its lease runs out. lease: fencing number, one
more at every claim. lost: claims whose worker ended while it held the image. Images of a cancelled
job stay as they are: nobody may claim or end them. code, detail: why the last attempt failed."""

JOB_RESULTS: Final = Table(
    "job_results",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("status", String(8), nullable=False),
    Column("code", String(64)),
    Column("detail", Text),
    *sealed_columns(nullable=True),
    Column("sequence", Integer, nullable=False),
    Column("finished_at", Double, nullable=False),
    ForeignKeyConstraint(
        ["job_id", "index"], ["job_items.job_id", "job_items.index"], ondelete="CASCADE"
    ),
    UniqueConstraint("job_id", "sequence"),
    Index(None, "job_id", "status", "index"),
)
"""Exactly one result of each image that has ended. status: `ok`, `error`."""

JOB_TENANTS: Final = Table(
    "job_tenants",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("served", Integer, nullable=False),
)
"""The turn in which each tenant was last served. Each claim is a turn; it serves the tenant whose
last turn was longest ago."""

JOB_WORKERS: Final = Table(
    "job_workers",
    METADATA,
    Column("name", String(128), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("operations", JSON, nullable=False),
    Column("counters", JSON, nullable=False),
)
"""Heartbeats of workers."""
