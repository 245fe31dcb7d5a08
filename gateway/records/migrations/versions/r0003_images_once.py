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
_NAMED = "CASE WHEN subject = id THEN '' ELSE subject END"
"""The subject; empty for a face without a name, which is a subject of its own."""
_RANKED = f"""
SELECT id, box, collection_id, image_sha256, {_NAMED} AS named,
       count(*) OVER (PARTITION BY collection_id, image_sha256, {_NAMED}) AS number,
       row_number() OVER (
           PARTITION BY collection_id, image_sha256, {_NAMED} ORDER BY created_at, id
       ) AS place
FROM faces WHERE state = 'committed' AND image_sha256 IS NOT NULL
"""
_SEVERAL = f"""
SELECT id, box, collection_id, image_sha256, named FROM ({_RANKED}) AS ranked
WHERE number > 1 ORDER BY collection_id, image_sha256, named, place
"""
_FORGET_ANSWERS = """
DELETE FROM idempotency WHERE EXISTS (
    SELECT 1 FROM answered_faces
    WHERE answered_faces.tenant = idempotency.tenant AND answered_faces.key = idempotency.key
    AND answered_faces.face_id = :face
)
"""
_CLAIM = f"""
UPDATE faces SET claim = image_sha256 || ':' || {_NAMED}
WHERE id IN (SELECT id FROM ({_RANKED}) AS ranked WHERE place = 1)
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
    # an index of all states finds nothing among committed faces, and SQLite preferred it
    op.drop_index(op.f("ix_faces_state"), "faces")
    _partial("ix_faces_state", ["state"], "state <> 'committed'")
    _partial(
        "ix_faces_collection_id_expires_at",
        ["collection_id", "expires_at"],
        "expires_at IS NOT NULL",
    )


def _partial(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(op.f(name), "faces", columns, sqlite_where=where, postgresql_where=where)


def _doubles(connection: sa.Connection) -> Iterator[str]:
    """Ids of faces that an older one of the same image and subject shows already."""
    query = sa.text(_SEVERAL).columns(box=sa.JSON)
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
