"""The routes about people's rights; all of them concern the caller's own tenant."""

from typing import Final

from gateway.api.audit import Audit
from gateway.api.auth import Permission
from gateway.api.pagination import PageOptions
from gateway.api.people import routes
from gateway.api.people.schemas import (
    ErasureOut,
    PeopleOut,
    RefusalAnswer,
    RefusalsAnswer,
    RefusalsOut,
)
from gateway.api.route import Route

_STORED: Final = ("invalid_request", "storage_unavailable", "unsupported_media_type")
_NAMED: Final = (*_STORED, "not_found", "insufficient_storage")
_IMAGES: Final = (
    "image_too_large",
    "invalid_image",
    "no_face",
    "inference_unavailable",
    "timeout",
)
_LIST: Final = "/api/collections/{name}/do-not-enrol"
_TAG: Final = "people"

PEOPLE_ROUTES: Final = (
    Route(
        method="POST",
        path="/api/subjects/find",
        handler=routes.find_people,
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Find a person in all collections",
        description="By the name of the subject, or by the largest face of an image. The answer "
        "lists candidates: look at them before you export or erase. With a raw `image/*` body the "
        "fields go into the query.",
        responses={200: PeopleOut},
        fields=routes.FIND_BODY,
        errors=(*_STORED, *_IMAGES),
        audit=Audit(action="find_people", kind="read"),
    ),
    Route(
        method="POST",
        path="/api/subjects/export",
        handler=routes.export_people,
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Export what is stored about a person",
        description="A ZIP with `person.json`, a page for people (`index.html`) and the stored "
        "crops: records, metadata, consents, faces, images of jobs, kept answers. Embeddings are "
        "added where `embeddings` says so.",
        responses={200: None},
        fields=routes.EXPORT_BODY,
        errors=_NAMED,
        media="application/zip",
        own_time=True,
        audit=Audit(action="export_people", kind="receipt"),
    ),
    Route(
        method="POST",
        path="/api/subjects/erase",
        handler=routes.erase_people,
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Erase a person",
        description="Deletes records, faces, vectors, crops, cached and kept answers, and what "
        "jobs have of the person, before it answers with a receipt. Nothing that was under way "
        "enrols the person again. `remains` says what is left and until when.",
        responses={200: ErasureOut},
        fields=routes.ERASE_BODY,
        errors=_NAMED,
        own_time=True,
        audit=Audit(action="erase_people", kind="receipt"),
    ),
    Route(
        method="POST",
        path=_LIST,
        handler=routes.refuse_person,
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Put a face on the do-not-enrol list",
        description="The largest face of an image, or the faces of a subject. From then on, "
        "enrolling a face that matches it is refused with the code `enrolment_refused`; what is "
        "enrolled stays. With a raw `image/*` body the fields go into the query.",
        responses={201: RefusalsAnswer},
        fields=routes.REFUSE_BODY,
        errors=(*_NAMED, *_IMAGES),
        audit=Audit(action="add_do_not_enrol", kind="receipt"),
    ),
    Route(
        method="GET",
        path=_LIST,
        handler=routes.list_refused,
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Show the do-not-enrol list",
        description="Oldest first, without the embeddings. `compared` tells entries that need to "
        "be added again after a change of the embedding model.",
        responses={200: RefusalsOut},
        options=PageOptions,
        errors=("invalid_request", "storage_unavailable", "not_found", "inference_unavailable"),
        audit=Audit(action="list_refused", kind="read"),
    ),
    Route(
        method="DELETE",
        path=f"{_LIST}/{{entry_id}}",
        handler=routes.allow_person,
        permission=Permission.MANAGE,
        tag=_TAG,
        summary="Take a face off the do-not-enrol list",
        description="The person can be enrolled again.",
        responses={200: RefusalAnswer},
        errors=("invalid_request", "storage_unavailable", "not_found", "insufficient_storage"),
        audit=Audit(action="remove_do_not_enrol", kind="receipt"),
    ),
)
