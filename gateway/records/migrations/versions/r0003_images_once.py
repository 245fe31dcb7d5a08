"""An image is remembered once for a subject: what was doubled is forgotten, then a unique index.

Revision: 0003
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SAME_FACE = 0.5
"""Overlap (IoU) of two boxes that are one face; those of two faces of an image share less."""
_NAMED = "CASE WHEN {0}.subject = {0}.id THEN '' ELSE {0}.subject END"
"""The subject; empty for a face without a name, which is a subject of its own."""
_DOUBLED = f"""
SELECT faces.id, faces.box, faces.collection_id, faces.image_sha256,
       {_NAMED.format("faces")} AS named
FROM faces JOIN (
    SELECT collection_id, image_sha256 FROM faces
    WHERE state = 'committed' AND image_sha256 IS NOT NULL
    GROUP BY collection_id, image_sha256 HAVING count(*) > 1
) AS several
ON faces.collection_id = several.collection_id AND faces.image_sha256 = several.image_sha256
WHERE faces.state = 'committed'
ORDER BY faces.collection_id, faces.image_sha256, named, faces.created_at, faces.id
"""
_FORGET_ANSWERS = """
DELETE FROM idempotency WHERE EXISTS (
    SELECT 1 FROM answered_faces
    WHERE answered_faces.tenant = idempotency.tenant AND answered_faces.key = idempotency.key
    AND answered_faces.face_id = :face
)
"""
_CLAIM = f"""
UPDATE faces SET claim = image_sha256 || ':' || {_NAMED.format("faces")}
WHERE state = 'committed' AND image_sha256 IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM faces AS earlier
    WHERE earlier.collection_id = faces.collection_id
    AND earlier.image_sha256 = faces.image_sha256
    AND earlier.state = 'committed'
    AND {_NAMED.format("earlier")} = {_NAMED.format("faces")}
    AND (earlier.created_at < faces.created_at
         OR (earlier.created_at = faces.created_at AND earlier.id < faces.id))
)
"""


def upgrade() -> None:
    """Mark doubles as `deleting`: the start that follows removes them with vectors and crops."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        # SQLite does not look at the length, and cannot change it
        op.alter_column("faces", "subject", type_=sa.String(length=128))
    op.add_column("faces", sa.Column("claim", sa.String(length=200), nullable=True))
    doubles = [{"face": face} for face in _doubles(connection)]
    if doubles:
        # a kept answer that names a double would say that its face was forgotten
        connection.execute(sa.text(_FORGET_ANSWERS), doubles)
        mark = sa.text("UPDATE faces SET state = 'deleting' WHERE id = :face")
        connection.execute(mark, doubles)
    connection.execute(sa.text(_CLAIM))
    op.create_index(
        op.f("ix_faces_collection_id_claim"), "faces", ["collection_id", "claim"], unique=True
    )


def _doubles(connection: sa.Connection) -> Iterator[str]:
    """Ids of faces that an older one of the same image and subject shows already."""
    query = sa.text(_DOUBLED).columns(box=sa.JSON)
    rows = connection.execute(query).all()
    for _, faces in groupby(rows, lambda row: (row.collection_id, row.image_sha256, row.named)):
        kept: list[Any] = []
        for face in faces:
            if any(_overlap(face.box, box) >= _SAME_FACE for box in kept):
                yield face.id
            else:
                kept.append(face.box)


def _overlap(a: Any, b: Any) -> float:
    """Intersection over union of two boxes; none without a box."""
    if a is None or b is None:
        return 0.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(shared / (sum(areas) - shared)) if shared else 0.0
