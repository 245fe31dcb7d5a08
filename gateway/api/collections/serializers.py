"""Converts collections, faces and matches to the shapes of answers."""

from collections.abc import Mapping, Sequence

from gateway.api.collections.consent import consent_out
from gateway.api.collections.consent import moment as moment
from gateway.api.collections.schemas import (
    ClusterOut,
    ClusterRunOut,
    ClustersOut,
    CollectionOut,
    EnrolledOut,
    EnrolOut,
    FaceRecordOut,
    MatchOut,
    MigrationOut,
    ProgressOut,
    ReceiptOut,
    RejectedOut,
    SearchedOut,
    SearchOut,
)
from gateway.api.collections.subject_schemas import SubjectOut
from gateway.api.faces.serializers import quality_out
from gateway.api.shapes import QualityOut
from gateway.collections.base import Enrolled, Receipt
from gateway.collections.intake import Rejected, Searched
from gateway.records.types import (
    Cluster,
    ClusterRun,
    CollectionRecord,
    FaceRecord,
    SubjectRecord,
)
from gateway.types import Quality
from triton_python_backend import contract

_FACES_SHOWN = 100


def collection_out(record: CollectionRecord, *, faces: int, subjects: int) -> CollectionOut:
    """Shape a collection."""
    migration = record.migration
    return CollectionOut(
        name=record.name,
        description=record.settings.description,
        keep=record.settings.keep,
        quality=record.settings.quality,
        retention_days=record.settings.retention_days,
        match_threshold=record.settings.match_threshold,
        requires_consent=record.settings.requires_consent,
        faces=faces,
        subjects=subjects,
        space=record.space,
        dimension=record.dimension,
        migration=None
        if migration is None
        else MigrationOut(
            source=migration.source,
            target=migration.target,
            state=migration.state,
            total=migration.total,
            done=migration.done,
            detail=migration.detail,
        ),
        created_at=moment(record.created_at),
        updated_at=moment(record.updated_at),
    )


def enrol_out(
    enrolled: Sequence[Enrolled], rejected: Sequence[Rejected], *, request_id: str
) -> EnrolOut:
    """Shape an enrolment."""
    return EnrolOut(
        request_id=request_id,
        faces=[_enrolled(each) for each in enrolled],
        rejected=[
            RejectedOut(
                index=each.index,
                name=each.name,
                code=each.code,
                detail=each.detail,
                reasons=list(each.reasons),
                box=_box(each.box),
            )
            for each in rejected
        ],
        space=enrolled[0].face.space if enrolled else None,
    )


def face_record_out(face: FaceRecord) -> FaceRecordOut:
    """Shape a remembered face."""
    return FaceRecordOut(
        face_id=face.id,
        subject=face.subject,
        box=_box(face.box),
        quality=stored_quality_out(face.quality),
        metadata=dict(face.metadata),
        image_sha256=face.image_sha256,
        space=face.space,
        detector=face.detector,
        created_at=moment(face.created_at),
        expires_at=None if face.expires_at is None else moment(face.expires_at),
    )


def subject_out(subject: SubjectRecord) -> SubjectOut:
    """Shape a subject."""
    return SubjectOut(
        subject=subject.name,
        display_name=subject.display_name,
        external_id=subject.external_id,
        metadata=dict(subject.metadata),
        consent=consent_out(subject.consent),
        purpose=subject.purpose,
        faces=subject.faces,
        created_at=moment(subject.created_at),
        updated_at=moment(subject.updated_at),
    )


def stored_quality_out(quality: Mapping[str, float]) -> QualityOut | None:
    """Shape a quality as it was stored; None for a raw embedding."""
    if any(column not in quality for column in contract.QUALITY_COLUMNS):
        return None
    return quality_out(Quality(**{column: quality[column] for column in contract.QUALITY_COLUMNS}))


def search_out(
    found: Searched, *, request_id: str, threshold: float, space: str | None
) -> SearchOut:
    """Shape a search."""
    return SearchOut(
        request_id=request_id,
        faces=[
            SearchedOut(
                box=_box(each.box),
                quality=None if each.quality is None else quality_out(each.quality),
                matches=[
                    MatchOut(
                        subject=match.subject,
                        face_id=match.face_id,
                        similarity=round(match.similarity, 6),
                        metadata=dict(match.metadata),
                    )
                    for match in each.matches
                ],
            )
            for each in found.faces
        ],
        faces_found=found.faces_found,
        rotation=found.rotation,
        threshold=threshold,
        space=space,
    )


def receipt_out(receipt: Receipt, *, request_id: str) -> ReceiptOut:
    """Shape a receipt."""
    return ReceiptOut(
        request_id=request_id,
        receipt=receipt.receipt,
        at=moment(receipt.at),
        faces=receipt.faces,
        vectors=receipt.vectors,
        crops=receipt.crops,
        cached_answers=receipt.cached_answers,
        job_results=receipt.job_results,
    )


def run_out(run: ClusterRun, *, request_id: str) -> ClusterRunOut:
    """Shape a run of clustering."""
    return ClusterRunOut(
        request_id=request_id,
        run_id=run.run_id,
        state=run.state,
        threshold=run.threshold,
        progress=ProgressOut(total=run.total, done=run.done),
        detail=run.detail,
        started_at=moment(run.started_at),
        finished_at=None if run.finished_at is None else moment(run.finished_at),
    )


def clusters_out(
    run: ClusterRun, clusters: Sequence[Cluster], *, request_id: str, next_cursor: str | None
) -> ClustersOut:
    """Shape a run and a page of groups."""
    return ClustersOut(
        **run_out(run, request_id=request_id).model_dump(),
        clusters=[
            ClusterOut(
                cluster_id=cluster.cluster_id,
                size=cluster.size,
                subjects=dict(cluster.subjects),
                faces=list(cluster.faces[:_FACES_SHOWN]),
            )
            for cluster in clusters
        ],
        next_cursor=next_cursor,
    )


def _enrolled(each: Enrolled) -> EnrolledOut:
    return EnrolledOut(
        face_id=each.face.id,
        subject=each.face.subject,
        index=each.index,
        duplicate=each.duplicate,
        faces_found=each.faces_found,
        box=_box(each.face.box),
        quality=stored_quality_out(each.face.quality),
        metadata=dict(each.face.metadata),
        created_at=moment(each.face.created_at),
    )


def _box(
    box: tuple[float, float, float, float] | None,
) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    left, top, right, bottom = (round(value, 2) for value in box)
    return left, top, right, bottom
