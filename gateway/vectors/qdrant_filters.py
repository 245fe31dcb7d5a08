"""Filters on faces as Qdrant writes them."""

from qdrant_client import models

from gateway.vectors.base import NO_FILTER, FaceFilter
from gateway.vectors.payload import SUBJECT, metadata_field


def filter_of(where: FaceFilter) -> models.Filter:
    """Write a filter, also one that lets every face pass."""
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


def optional_filter(where: FaceFilter) -> models.Filter | None:
    """Write a filter; None for one that lets every face pass."""
    return filter_of(where) if where != NO_FILTER else None
