"""What enrolments and searches send: images by name, embeddings as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from aurum_client.images import ImageSource, Picture, read_picture


@dataclass(frozen=True)
class FaceEmbedding:
    """A face that was embedded before; its metadata is added to that of the call."""

    embedding: Iterable[float]
    subject: Optional[str] = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_pictures(
    images: Union[ImageSource, Sequence[ImageSource]],
) -> list[tuple[str, Picture]]:
    """Read one image or several, by their form fields; raises ValueError for an empty list."""
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("there is no image to enrol")
        return [("images", read_picture(each)) for each in images]
    return [("image", read_picture(images))]  # type: ignore[arg-type] # a sequence of another kind


def embeddings_body(
    embeddings: Iterable[FaceEmbedding],
    *,
    space: str,
    subject: Optional[str],
    metadata: Optional[Mapping[str, Any]],
    consent: Optional[Mapping[str, Any]],
    purpose: Optional[str],
) -> Mapping[str, Any]:
    """Write an enrolment of embeddings."""
    entries = []
    for each in embeddings:
        entry: dict[str, Any] = {"embedding": _numbers(each.embedding)}
        if each.subject is not None:
            entry["subject"] = each.subject
        if each.metadata:
            entry["metadata"] = dict(each.metadata)
        entries.append(entry)
    return _without_none(
        embeddings=entries,
        space=space,
        subject=subject,
        metadata=metadata,
        consent=consent,
        purpose=purpose,
    )


def embedding_search(embedding: Iterable[float], *, space: str, **fields: Any) -> Mapping[str, Any]:
    """Write a search for an embedding."""
    return _without_none(embedding=_numbers(embedding), space=space, **fields)


def _numbers(embedding: Iterable[float]) -> list[float]:
    # also NumPy's numbers, which JSON does not know
    return [float(each) for each in embedding]


def _without_none(**fields: Any) -> Mapping[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
