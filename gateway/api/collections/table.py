"""The routes of routes, once, as `table.py` takes them up."""

from typing import Final

from gateway.api.collections import faces, routes, subjects
from gateway.api.collections.schemas import (
    ClusterRunOut,
    ClustersOut,
    CollectionAnswer,
    CollectionsOut,
    EnrolOut,
    FaceListOptions,
    FaceListOut,
    PageOptions,
    ReceiptOut,
    SearchOut,
)
from gateway.api.collections.subject_schemas import SubjectAnswer, SubjectListOptions, SubjectsOut
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

COLLECTION_ROUTES: Final = (
    Route(
        "POST",
        "/api/collections",
        routes.create_collection,
        "collections",
        "Make a collection",
        "Empty; the first face binds it to the embedding space in service.",
        {201: CollectionAnswer},
        fields=routes.CREATE_BODY,
        errors=(*_STORED, "conflict", "unsupported_media_type", "insufficient_storage"),
    ),
    Route(
        "GET",
        "/api/collections",
        routes.list_collections,
        "collections",
        "List collections",
        "By name.",
        {200: CollectionsOut},
        PageOptions,
        errors=_STORED,
    ),
    Route(
        "GET",
        _COLLECTION,
        routes.show_collection,
        "collections",
        "Show a collection",
        "Its settings, how many faces and subjects it holds, and a move under way.",
        {200: CollectionAnswer},
        errors=_NAMED,
    ),
    Route(
        "PATCH",
        _COLLECTION,
        routes.change_collection,
        "collections",
        "Change a collection's settings",
        "Fields that are left out stay. From `keep=crop` to `none` removes the kept crops.",
        {200: CollectionAnswer},
        fields=routes.CHANGE_BODY,
        errors=(*_WRITES, "unsupported_media_type"),
    ),
    Route(
        "DELETE",
        _COLLECTION,
        routes.forget_collection,
        "collections",
        "Forget a collection",
        "Vectors, copies, crops, cached answers and records are gone before the answer, a receipt.",
        {200: ReceiptOut},
        errors=_NAMED,
    ),
    Route(
        "POST",
        f"{_COLLECTION}/faces",
        faces.enrol_faces,
        "collections",
        "Enrol faces",
        "Of one or many images, or embeddings with their space. 201 where something new is "
        "remembered, 200 where all was there already. An image that is refused beside others is "
        "listed in `rejected`; where all are refused the answer is the first one's problem. With "
        "an `Idempotency-Key` header a repeated request is answered as the first, for a day. With "
        "a raw `image/*` body the fields go into the query.",
        {201: EnrolOut, 200: EnrolOut},
        fields=faces.ENROL_BODY,
        errors=(*_WRITES, *_IMAGES, "low_quality", "several_faces"),
    ),
    Route(
        "GET",
        f"{_COLLECTION}/faces",
        faces.list_faces,
        "collections",
        "List remembered faces",
        "Oldest first.",
        {200: FaceListOut},
        FaceListOptions,
        errors=_NAMED,
    ),
    Route(
        "DELETE",
        f"{_COLLECTION}/faces/{{face_id}}",
        faces.forget_face,
        "collections",
        "Forget a face",
        "Its vector, copy, crop and cached answers are gone before the answer, a receipt.",
        {200: ReceiptOut},
        errors=_NAMED,
    ),
    Route(
        "GET",
        f"{_COLLECTION}/faces/{{face_id}}/crop",
        faces.show_crop,
        "collections",
        "Show a kept crop",
        "The aligned face, 112 x 112, as it was enrolled into a collection with `keep=crop`. 404 "
        "says why there is none.",
        {200: None},
        errors=_NAMED,
        media="image/png",
    ),
    Route(
        "GET",
        f"{_COLLECTION}/subjects",
        subjects.list_subjects,
        "collections",
        "List subjects",
        "By name; `q` looks for words in names and external ids.",
        {200: SubjectsOut},
        SubjectListOptions,
        errors=_NAMED,
    ),
    Route(
        "GET",
        _SUBJECT,
        subjects.show_subject,
        "collections",
        "Show a subject",
        "Its record, and how many faces show it.",
        {200: SubjectAnswer},
        errors=_NAMED,
    ),
    Route(
        "PATCH",
        _SUBJECT,
        subjects.change_subject,
        "collections",
        "Change a subject's record",
        "Fields that are left out stay; `metadata` is replaced as a whole.",
        {200: SubjectAnswer},
        fields=subjects.SUBJECT_BODY,
        errors=(*_NAMED, "unsupported_media_type", "insufficient_storage"),
    ),
    Route(
        "DELETE",
        _SUBJECT,
        subjects.forget_subject,
        "collections",
        "Forget a subject",
        "Its record and all its faces, as one.",
        {200: ReceiptOut},
        errors=_NAMED,
    ),
    Route(
        "POST",
        f"{_COLLECTION}/search",
        faces.search_faces,
        "collections",
        "Find faces",
        "Of an image, or an embedding with its space. Nobody: `matches` is empty. With a raw "
        "`image/*` body the fields go into the query.",
        {200: SearchOut},
        fields=faces.SEARCH_BODY,
        errors=(*_NAMED, "conflict", *_IMAGES),
    ),
    Route(
        "POST",
        f"{_COLLECTION}/clusters",
        routes.start_clusters,
        "collections",
        "Group faces into identities",
        "In the background; a run under way is answered as it is.",
        {202: ClusterRunOut},
        fields=routes.CLUSTER_BODY,
        errors=(*_WRITES, "unsupported_media_type"),
    ),
    Route(
        "GET",
        f"{_COLLECTION}/clusters",
        routes.show_clusters,
        "collections",
        "Show the groups",
        "The latest run's progress, and the groups of the latest that is done.",
        {200: ClustersOut},
        PageOptions,
        errors=_NAMED,
    ),
    Route(
        "POST",
        f"{_COLLECTION}/migrate",
        routes.migrate_collection,
        "collections",
        "Move to the newest embedding space",
        "For collections that keep crops. `start` answers 202 and goes on in the background; "
        "searches ask the old space until every face is in the new one. `rollback` and `finish` "
        "answer 200 when done.",
        {202: CollectionAnswer, 200: CollectionAnswer},
        fields=routes.MIGRATE_BODY,
        errors=(*_WRITES, "unsupported_media_type", "inference_unavailable", "timeout"),
    ),
)
