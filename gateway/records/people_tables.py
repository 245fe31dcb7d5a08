"""The tables of people's rights: erasures that older jobs must obey, faces not to be enrolled."""

from typing import Final

from sqlalchemy import Column, Double, ForeignKey, Index, String, Table

from gateway.records.tables import METADATA, collection_column, sealed_columns

ERASURES: Final = Table(
    "erasures",
    METADATA,
    collection_column(primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("erased_at", Double, nullable=False),
    Index(None, "erased_at"),
)
"""What was erased from a collection: `digest` is a SHA-256 of a subject or an image, see
`erasures.py`. What was begun before `erased_at` must not enrol it again; the row is removed when no
such job is left."""

REFUSED_FACES: Final = Table(
    "refused_faces",
    METADATA,
    Column("id", String(36), primary_key=True),
    collection_column(),
    Column("space", String(16), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", String(64), nullable=False),
    *sealed_columns(),
    Index(None, "collection_id", "created_at", "id"),
)
"""Faces that a collection does not enrol. sealed: the embedding, float32, under the name
`refusal/id`. The numbers serve this comparison only."""

REFUSED_CROPS: Final = Table(
    "refused_crops",
    METADATA,
    Column(
        "refusal_id",
        String(36),
        ForeignKey("refused_faces.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    *sealed_columns(),
)
"""Aligned faces of entries that were added with `keep_crop`, under the name `refusal-crop/id`, so
that a newer model can embed them."""
