"""The routes of collections."""

from typing import Final

from gateway.api.audit import Audit
from gateway.api.auth import Permission
from gateway.api.collections import faces, routes, subjects
from gateway.api.collections.schemas import (
    ClusterRunOut,
    ClustersOut,
    CollectionAnswer,
    CollectionsOut,
    EnrolOut,
    FaceListOptions,
    FaceListOut,
    ReceiptOut,
    SearchOut,
)
from gateway.api.collections.subject_schemas import SubjectAnswer, SubjectListOptions, SubjectsOut
from gateway.api.idempotency import Idempotency
from gateway.api.pagination import PageOptions
from gateway.api.route import Route

_STORED: Final = ("invalid_request", "storage_unavailable")
_NAMED: Final = (*_STORED, "not_found")
_WRITES: Final = (*_NAMED, "conflict", "insufficient_storage")
_IMAGES: Final = (
    "image_too_large",
    "unsupported_media_type",
    "invalid_image",
    "no_face",
    "inference_unavailable",
    "timeout",
)
_COLLECTION: Final = "/api/collections/{name}"
_SUBJECT: Final = f"{_COLLECTION}/subjects/{{subject}}"
_TAG: Final = "collections"

COLLECTION_ROUTES: Final = (
    Route(
        method="POST",
        path="/api/collections",
        handler=routes.create_collection,
        audit=Audit(action="create_collection", kind="change"),
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Create a collection",
        description="The collection is empty; its first face binds it to the embedding space in "
        "service.",
        responses={201: CollectionAnswer},
        fields=routes.CREATE_BODY,
        errors=(*_STORED, "conflict", "unsupported_media_type", "insufficient_storage"),
    ),
    Route(
        method="GET",
        path="/api/collections",
        handler=routes.list_collections,
        permission=Permission.SEARCH,
        tag=_TAG,
        summary="List collections",
        description="Sorted by name.",
        responses={200: CollectionsOut},
        options=PageOptions,
        errors=_STORED,
    ),
    Route(
        method="GET",
        path=_COLLECTION,
        handler=routes.show_collection,
        permission=Permission.SEARCH,
        tag=_TAG,
        summary="Show a collection",
        description="Its settings, its numbers of faces and subjects, and the state of a move to "
        "another embedding space.",
        responses={200: CollectionAnswer},
        errors=_NAMED,
    ),
    Route(
        method="PATCH",
        path=_COLLECTION,
        handler=routes.change_collection,
        audit=Audit(action="change_collection", kind="change"),
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Change a collection's settings",
        description="Fields that are left out do not change. Switching `keep` from `crop` to "
        "`none` deletes stored crops.",
        responses={200: CollectionAnswer},
        fields=routes.CHANGE_BODY,
        errors=(*_WRITES, "unsupported_media_type"),
        own_time=True,
    ),
    Route(
        method="DELETE",
        path=_COLLECTION,
        handler=routes.forget_collection,
        audit=Audit(action="forget_collection", kind="receipt"),
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Delete a collection",
        description="Deletes vectors, their copies, crops, cached answers and records before it "
        "answers with a receipt.",
        responses={200: ReceiptOut},
        errors=_NAMED,
        own_time=True,
    ),
    Route(
        method="POST",
        path=f"{_COLLECTION}/faces",
        handler=faces.enrol_faces,
        audit=Audit(action="enrol_faces", kind="change"),
        permission=Permission.ENROL,
        tag=_TAG,
        summary="Enrol faces",
        description="Enrols the faces of one or several images, or embeddings with their space. "
        "201 if a face is new, 200 if all were enrolled before. `rejected` lists images that were "
        "refused; if all were, the answer is the problem of the first. With an `Idempotency-Key` "
        "header a repeated request gets the first answer again, for a day. With a raw `image/*` "
        "body the fields go into the query.",
        responses={201: EnrolOut, 200: EnrolOut},
        fields=faces.ENROL_BODY,
        errors=(
            *_WRITES,
            *_IMAGES,
            "low_quality",
            "several_faces",
            "enrolment_refused",
            "consent_required",
        ),
        idempotency=Idempotency(faces.enrolled_ids),
    ),
    Route(
        method="GET",
        path=f"{_COLLECTION}/faces",
        handler=faces.list_faces,
        audit=Audit(action="list_faces", kind="read"),
        permission=Permission.SEARCH,
        tag=_TAG,
        summary="List enrolled faces",
        description="Oldest first.",
        responses={200: FaceListOut},
        options=FaceListOptions,
        errors=_NAMED,
    ),
    Route(
        method="DELETE",
        path=f"{_COLLECTION}/faces/{{face_id}}",
        handler=faces.forget_face,
        audit=Audit(action="forget_face", kind="receipt"),
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Delete a face",
        description="Deletes its vector, copy, crop and cached answers before it answers with a "
        "receipt.",
        responses={200: ReceiptOut},
        errors=_NAMED,
    ),
    Route(
        method="GET",
        path=f"{_COLLECTION}/faces/{{face_id}}/crop",
        handler=faces.show_crop,
        audit=Audit(action="show_crop", kind="read"),
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Show a stored crop",
        description="The aligned face, 112 x 112 pixels, as enrolled into a collection with "
        "`keep=crop`. The detail of a 404 says why there is none.",
        responses={200: None},
        errors=_NAMED,
        media="image/png",
    ),
    Route(
        method="GET",
        path=f"{_COLLECTION}/subjects",
        handler=subjects.list_subjects,
        audit=Audit(action="list_subjects", kind="read"),
        permission=Permission.SEARCH,
        tag=_TAG,
        summary="List subjects",
        description="Sorted by name; `q` searches for words in names and external ids.",
        responses={200: SubjectsOut},
        options=SubjectListOptions,
        errors=_NAMED,
    ),
    Route(
        method="GET",
        path=_SUBJECT,
        handler=subjects.show_subject,
        audit=Audit(action="show_subject", kind="read"),
        permission=Permission.SEARCH,
        tag=_TAG,
        summary="Show a subject",
        description="Its record and its number of faces.",
        responses={200: SubjectAnswer},
        errors=_NAMED,
    ),
    Route(
        method="PATCH",
        path=_SUBJECT,
        handler=subjects.change_subject,
        audit=Audit(action="change_subject", kind="change"),
        permission=Permission.ENROL,
        tag=_TAG,
        summary="Change a subject's record",
        description="Fields that are left out do not change; `metadata` and `consent` are "
        "replaced as a whole. A consent with `withdrawn_at` ends: the faces of the subject are not "
        "found any more, and the retention task deletes them.",
        responses={200: SubjectAnswer},
        fields=subjects.SUBJECT_BODY,
        errors=(*_NAMED, "unsupported_media_type", "insufficient_storage", "consent_required"),
    ),
    Route(
        method="DELETE",
        path=_SUBJECT,
        handler=subjects.forget_subject,
        audit=Audit(action="forget_subject", kind="receipt"),
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Delete a subject",
        description="Deletes its record and all its faces.",
        responses={200: ReceiptOut},
        errors=_NAMED,
        own_time=True,
    ),
    Route(
        method="POST",
        path=f"{_COLLECTION}/search",
        handler=faces.search_faces,
        audit=Audit(action="search_faces", kind="read"),
        permission=Permission.SEARCH,
        tag=_TAG,
        summary="Search for faces",
        description="Searches for the faces of an image, or for an embedding with its space. "
        "Without a match `matches` is empty. With a raw `image/*` body the fields go into the "
        "query.",
        responses={200: SearchOut},
        fields=faces.SEARCH_BODY,
        errors=(*_NAMED, "conflict", *_IMAGES),
    ),
    Route(
        method="POST",
        path=f"{_COLLECTION}/clusters",
        handler=routes.start_clusters,
        audit=Audit(action="cluster_faces", kind="change"),
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Cluster faces into identities",
        description="Starts a run in the background; while one is running it is returned instead.",
        responses={202: ClusterRunOut},
        fields=routes.CLUSTER_BODY,
        errors=(*_WRITES, "unsupported_media_type"),
    ),
    Route(
        method="GET",
        path=f"{_COLLECTION}/clusters",
        handler=routes.show_clusters,
        audit=Audit(action="show_clusters", kind="read"),
        permission=Permission.SEARCH,
        tag=_TAG,
        summary="Show the clusters",
        description="The progress of the latest run, and the clusters of the latest finished one.",
        responses={200: ClustersOut},
        options=PageOptions,
        errors=_NAMED,
    ),
    Route(
        method="POST",
        path=f"{_COLLECTION}/migrate",
        handler=routes.migrate_collection,
        audit=Audit(action="migrate_collection", kind="change"),
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Move to the newest embedding space",
        description="Needs stored crops of all faces. `start` answers 202 and continues in the "
        "background; searches use the old space until every face is in the new one. `rollback` "
        "and `finish` answer 200 when they are done.",
        responses={202: CollectionAnswer, 200: CollectionAnswer},
        fields=routes.MIGRATE_BODY,
        errors=(*_WRITES, "unsupported_media_type", "inference_unavailable", "timeout"),
    ),
)
