"""Filters of a Qdrant server."""

from qdrant_client import models

from gateway.vectors.base import NO_FILTER, FaceFilter
from gateway.vectors.payload import SUBJECT, metadata_field


def must_match(where: FaceFilter) -> models.Filter:
    """Return the filter of the faces that are asked for."""
    must: list[models.Condition] = []
    if where.subject is not None:
        must.append(
            models.FieldCondition(key=SUBJECT, match=models.MatchValue(value=where.subject))
        )
    for key, value in where.metadata.items():
        path = metadata_field(key)
        if isinstance(value, bool | str):
            must.append(models.FieldCondition(key=path, match=models.MatchValue(value=value)))
        else:
            # a match finds integers only; metadata has no integer that a double cannot represent
            must.append(models.FieldCondition(key=path, range=models.Range(gte=value, lte=value)))
    without: list[models.Condition] = []
    if where.without:
        without.append(models.HasIdCondition(has_id=list(where.without)))
    return models.Filter(must=must, must_not=without)


def filter_of(where: FaceFilter) -> models.Filter | None:
    """Return the filter of the faces that are asked for; None for all."""
    return must_match(where) if where != NO_FILTER else None
