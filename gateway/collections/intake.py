"""Takes images and raw embeddings to enrol or search for their faces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

from gateway.collections.admission import REFUSED, Admitted
from gateway.collections.base import Enrolled, FaceCandidate
from gateway.collections.enrol import KeepEnrolled
from gateway.collections.image_analysis import (
    OF_ONE_IMAGE,
    ImageAnalysis,
    NamedImage,
    chosen_faces,
    embedding_of,
    space_of,
)
from gateway.collections.quality import Gate, why_rejected
from gateway.collections.refusals import NewRefusal
from gateway.collections.search import Probe, SearchOptions
from gateway.collections.service import Collections
from gateway.concurrency import composed
from gateway.deadline import Deadline
from gateway.errors import (
    AurumError,
    EnrolmentRefusedError,
    InvalidRequestError,
    LowQualityError,
)
from gateway.pipeline import Pipeline, Result, Selection
from gateway.records import clock
from gateway.records.types import (
    CollectionRecord,
    FaceRecord,
    KeptAnswer,
    MetadataValue,
    Terms,
)
from gateway.types import Face, Quality
from gateway.vectors.base import Match, Vector


@dataclass(frozen=True, slots=True)
class EnrolOptions:
    """How images are enrolled; gate None uses that of the collection.

    terms: consent and purpose; without `begun_at`, the enrolment begins now.
    """

    subject: str | None
    faces: Literal["largest", "all", "single"]
    gate: Gate | None
    metadata: Mapping[str, MetadataValue]
    selection: Selection
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True)
class RawEmbedding:
    """An embedding made elsewhere: [D] float32."""

    vector: Vector
    subject: str | None
    metadata: Mapping[str, MetadataValue]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An image, or one of its faces, that was not enrolled, and why."""

    index: int
    name: str | None
    code: str
    detail: str
    reasons: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A face of a probe and its matches; box and quality None for a raw embedding."""

    box: tuple[float, float, float, float] | None
    quality: Quality | None
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class Searched:
    """The faces of a probe, the number found in its image, and its rotation."""

    faces: tuple[Found, ...]
    faces_found: int | None = None
    rotation: int | None = None


Outcome = tuple[tuple[Enrolled, ...], tuple[Rejected, ...]]
"""What a request with images enrolled, and did not."""


@dataclass(slots=True)
class _Sorted:
    """Results of the images so far."""

    enrolled: list[Enrolled] = field(default_factory=list)
    candidates: list[FaceCandidate] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    repeated: list[tuple[int, str]] = field(default_factory=list)
    """Index and digest of images that occur twice in this request."""


class Intake:
    """Passes the faces of images on to enrolment or search."""

    def __init__(self, pipeline: Pipeline, collections: Collections) -> None:
        self._analysis = ImageAnalysis(pipeline)
        self._collections = collections

    async def enrol_images(
        self,
        collection: CollectionRecord,
        images: Sequence[NamedImage],
        options: EnrolOptions,
        *,
        deadline: Deadline,
        kept: Callable[[Outcome], KeptAnswer] | None = None,
    ) -> Outcome:
        """Enrol the images that can be; raises the error of the first image if none can.

        kept: makes the answer that is kept in the transaction that enrols. Raises
        ConsentRequiredError where a consent is missing.
        """
        terms = _begun(options.terms)
        results = await self._analysis.run_each(
            images, options.selection, tenant=collection.tenant, deadline=deadline
        )
        sorted_ = _Sorted()
        errors: list[AurumError] = []
        for index, (image, result) in enumerate(zip(images, results, strict=True)):
            try:
                if isinstance(result, AurumError):
                    raise result
                await self._sort(collection, index, image, result, options, sorted_)
            except OF_ONE_IMAGE as error:
                errors.append(error)
                rejected = Rejected(index, image.name, error.code, error.detail)
                sorted_.rejected.append(rejected)
        if not sorted_.candidates and not sorted_.enrolled:
            raise errors[0] if errors else _low_quality(sorted_.rejected)
        found = [each.faces_found if isinstance(each, Result) else None for each in results]
        names = [image.name for image in images]

        def outcome(admitted: Admitted) -> Outcome:
            return (
                _everything(sorted_, admitted.enrolled, found),
                _all_rejected(sorted_, admitted.refused, names),
            )

        admitted = await self._collections.admission.enrol(
            collection,
            sorted_.candidates,
            terms,
            deadline=deadline,
            kept=composed(kept, outcome),
        )
        if admitted.refused and not admitted.enrolled and not sorted_.enrolled:
            raise EnrolmentRefusedError(REFUSED)
        return outcome(admitted)

    async def enrol_embeddings(
        self,
        collection: CollectionRecord,
        embeddings: Sequence[RawEmbedding],
        *,
        space: str,
        deadline: Deadline,
        terms: Terms,
        kept: KeepEnrolled | None = None,
    ) -> tuple[Enrolled, ...]:
        """Enrol embeddings, all or none; kept: as of `Enrolment.enrol`.

        Raises EnrolmentRefusedError if one is on the list of the collection, ConsentRequiredError
        where a consent is missing.
        """
        candidates = [
            FaceCandidate(index, unit(each.vector), space, each.subject, each.metadata)
            for index, each in enumerate(embeddings)
        ]

        admitted = await self._collections.admission.enrol(
            collection,
            candidates,
            _begun(terms),
            deadline=deadline,
            all_or_none=True,
            kept=composed(kept, lambda admitted: admitted.enrolled),
        )
        if admitted.refused:
            raise EnrolmentRefusedError(f"embedding {admitted.refused[0].index}: {REFUSED}")
        return admitted.enrolled

    async def one_face(
        self, data: bytes, selection: Selection, *, tenant: str, keep_crop: bool, deadline: Deadline
    ) -> NewRefusal:
        """Return the largest face of an image, for a do-not-enrol list.

        Raises NoFaceError if there is none.
        """
        result = await self._analysis.run(data, selection, tenant=tenant, deadline=deadline)
        (face,) = chosen_faces(result, "largest")
        return NewRefusal(embedding_of(face), space_of(result), face.crop if keep_crop else None)

    async def probe(
        self, data: bytes, selection: Selection, *, tenant: str, deadline: Deadline
    ) -> Probe:
        """Return the largest face of an image, to search for; raises NoFaceError."""
        face = await self.one_face(
            data, selection, tenant=tenant, keep_crop=True, deadline=deadline
        )
        return Probe(face.vector, face.space, face.crop)

    async def search_image(
        self,
        collection: CollectionRecord,
        data: bytes,
        options: SearchOptions,
        *,
        all_faces: bool,
        selection: Selection,
        deadline: Deadline,
    ) -> Searched:
        """Search for the faces of an image; raises NoFaceError if there are none."""
        result = await self._analysis.run(
            data, selection, tenant=collection.tenant, deadline=deadline
        )
        faces = chosen_faces(result, "all" if all_faces else "largest")
        space = space_of(result)
        probes = [Probe(embedding_of(face), space, face.crop) for face in faces]
        matches = await self._collections.search.find(
            collection, probes, options, deadline=deadline
        )
        found = tuple(
            Found(face.box, face.quality, each) for face, each in zip(faces, matches, strict=True)
        )
        return Searched(found, result.faces_found, result.analysis.rotation)

    async def search_embedding(
        self,
        collection: CollectionRecord,
        vector: Vector,
        options: SearchOptions,
        *,
        space: str,
        deadline: Deadline,
    ) -> Searched:
        """Search for a raw embedding."""
        probe = Probe(unit(vector), space)
        (matches,) = await self._collections.search.find(
            collection, [probe], options, deadline=deadline
        )
        return Searched((Found(None, None, matches),))

    async def _sort(
        self,
        collection: CollectionRecord,
        index: int,
        image: NamedImage,
        result: Result,
        options: EnrolOptions,
        into: _Sorted,
    ) -> None:
        """Sort the faces of an image into `into`; raises an error that rejects the whole image."""
        known = await self._known(collection, result.image.sha256, options.subject)
        if any(c.image_sha256 == result.image.sha256 for c in into.candidates):
            into.repeated.append((index, result.image.sha256))
            return
        if known:
            into.enrolled += [Enrolled(index, face, True, result.faces_found) for face in known]
            return
        gate = options.gate or collection.settings.quality
        for face in chosen_faces(result, options.faces):
            reasons = why_rejected(face.quality, gate)
            if reasons:
                detail = f"the face does not pass the {gate} gate: {', '.join(reasons)}"
                into.rejected.append(
                    Rejected(index, image.name, LowQualityError.code, detail, reasons, face.box)
                )
            else:
                into.candidates.append(_candidate(index, face, result, options))

    async def _known(
        self, collection: CollectionRecord, digest: str, subject: str | None
    ) -> list[FaceRecord]:
        """Return the faces enrolled from this image before, of the subject if one is named."""
        found = await self._collections.stores.records.faces.of_image(collection.id, digest)
        return [face for face in found if subject is None or face.subject == subject]


def _begun(terms: Terms) -> Terms:
    return terms if terms.begun_at is not None else replace(terms, begun_at=clock.now())


def _everything(
    sorted_: _Sorted, added: Sequence[Enrolled], found: Sequence[int | None]
) -> tuple[Enrolled, ...]:
    """Bring the faces of a request in the order of its images.

    found: number of faces in each image, None where it was not analysed.
    """
    new = [replace(each, faces_found=found[each.index]) for each in added]
    repeats = [
        Enrolled(index, each.face, True, found[index])
        for index, digest in sorted_.repeated
        for each in new
        if each.face.image_sha256 == digest
    ]
    return tuple(sorted([*sorted_.enrolled, *new, *repeats], key=lambda each: each.index))


def _all_rejected(
    sorted_: _Sorted, refused: Sequence[FaceCandidate], names: Sequence[str | None]
) -> tuple[Rejected, ...]:
    """Bring what was not enrolled in the order of the images; refused: by the collection's list."""
    code = EnrolmentRefusedError.code
    listed = [Rejected(c.index, names[c.index], code, REFUSED, box=c.box) for c in refused]
    return tuple(sorted([*sorted_.rejected, *listed], key=lambda each: each.index))


def unit(vector: Vector) -> Vector:
    """Scale to unit length; raises InvalidRequestError for a vector without a length."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-9:
        raise InvalidRequestError("an embedding must be finite and not zero")
    scaled: Vector = (vector / length).astype(np.float32)
    return scaled


def _candidate(index: int, face: Face, result: Result, options: EnrolOptions) -> FaceCandidate:
    return FaceCandidate(
        index=index,
        vector=embedding_of(face),
        space=space_of(result),
        subject=options.subject,
        metadata=options.metadata,
        crop=face.crop,
        box=face.box,
        quality=asdict(face.quality),
        image_sha256=result.image.sha256,
        detector=result.analysis.detection.id,
    )


def _low_quality(rejected: Sequence[Rejected]) -> LowQualityError:
    return LowQualityError(rejected[0].detail if rejected else "no image was sent")
