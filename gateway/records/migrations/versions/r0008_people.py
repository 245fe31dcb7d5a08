"""Consent and purpose of subjects, erasures, faces that are not to be enrolled.

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

from gateway.records.migrations.losses import refuse_if

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and make the tables."""
    for name in ("purpose", "consent_reference"):
        op.add_column("subjects", sa.Column(name, sa.String(length=200), nullable=True))
    for name in ("given", "expires", "withdrawn", "ends"):
        op.add_column("subjects", sa.Column(f"consent_{name}_at", sa.Double(), nullable=True))
    op.create_index(op.f("ix_subjects_consent_ends_at"), "subjects", ["consent_ends_at"])
    op.add_column("faces", sa.Column("kept_until", sa.Double(), nullable=True))
    op.execute("UPDATE faces SET kept_until = expires_at")
    refusals = sa.Column("refusals", sa.Integer(), nullable=False, server_default="0")
    op.add_column("collections", refusals)
    op.create_index(op.f("ix_job_items_sha256"), "job_items", ["sha256"])
    op.create_index(op.f("ix_jobs_collection_id"), "jobs", ["collection_id"])
    op.create_table(
        "erasures",
        sa.Column("collection_id", sa.String(length=36), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("erased_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_erasures_collection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("collection_id", "digest", name=op.f("pk_erasures")),
    )
    op.create_index(op.f("ix_erasures_erased_at"), "erasures", ["erased_at"])
    op.create_table(
        "refused_faces",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("collection_id", sa.String(length=36), nullable=False),
        sa.Column("space", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_refused_faces_collection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refused_faces")),
    )
    op.create_index(
        op.f("ix_refused_faces_collection_id_created_at_id"),
        "refused_faces",
        ["collection_id", "created_at", "id"],
    )
    op.create_table(
        "refused_crops",
        sa.Column("refusal_id", sa.String(length=36), nullable=False),
        sa.Column("key_id", sa.String(length=32), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["refusal_id"],
            ["refused_faces.id"],
            name=op.f("fk_refused_crops_refusal_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("refusal_id", name=op.f("pk_refused_crops")),
    )


def downgrade() -> None:
    """Drop the tables and columns.

    Raises ConfigurationError if there are consents, purposes, erasures or refused faces: who was
    erased or refused could be enrolled again.
    """
    refuse_if("erasures", "erased people")
    refuse_if("refused_faces", "faces that are not to be enrolled")
    refuse_if("subjects WHERE consent_given_at IS NOT NULL", "consents")
    refuse_if("subjects WHERE purpose IS NOT NULL", "purposes")
    for table in ("refused_crops", "refused_faces", "erasures"):
        op.drop_table(table)
    op.drop_index(op.f("ix_jobs_collection_id"), "jobs")
    op.drop_index(op.f("ix_job_items_sha256"), "job_items")
    op.drop_column("collections", "refusals")
    op.drop_column("faces", "kept_until")
    op.drop_index(op.f("ix_subjects_consent_ends_at"), "subjects")
    for name in ("given", "expires", "withdrawn", "ends"):
        op.drop_column("subjects", f"consent_{name}_at")
    for name in ("purpose", "consent_reference"):
        op.drop_column("subjects", name)
