"""Enrols the faces of an image of a job, as the route of a collection does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.api.collections.consent import read_consent
from gateway.api.collections.schemas import EnrolIn
from gateway.api.collections.serializers import enrol_out
from gateway.api.shapes import dump_json
from gateway.collections.base import check_metadata
from gateway.collections.image_analysis import NamedImage
from gateway.collections.intake import EnrolOptions, Intake
from gateway.collections.names import subject_of_file, subject_of_folder
from gateway.collections.service import Collections
from gateway.deadline import Deadline
from gateway.errors import InvalidRequestError, NotFoundError
from gateway.pipeline import Selection
from gateway.records.job_types import LeasedItem
from gateway.records.types import CollectionRecord, Terms
from gateway.worker.operations import read_options, request_id_of


@dataclass(frozen=True, slots=True)
class Enroller:
    """What an enrolment uses."""

    collections: Collections
    intake: Intake


class EnrolFaces:
    """Enrols the faces of images; an image that was enrolled for its subject before is not again.

    open_enroller: called for each image, so that a worker without such jobs opens no vectors.
    """

    def __init__(self, open_enroller: Callable[[], Awaitable[Enroller]]) -> None:
        self._open_enroller = open_enroller

    async def answer(self, item: LeasedItem, image: bytes, *, deadline: Deadline) -> bytes:
        """See `ItemOperation.answer`."""
        enroller = await self._open_enroller()
        fields = read_options(EnrolIn, item.job.options)
        options = EnrolOptions(
            subject=_subject(item, fields.subject),
            faces=fields.faces,
            gate=fields.quality,
            metadata=check_metadata(
                fields.metadata, max_entries=enroller.collections.limits.max_metadata_entries
            ),
            selection=Selection(
                fields.max_faces, fields.min_confidence, fields.rotation, fields.detail
            ),
            # what was erased since the job was made stays away
            terms=Terms(read_consent(fields.consent), fields.purpose, item.job.created_at),
        )
        enrolled, rejected = await enroller.intake.enrol_images(
            await _collection(enroller, item),
            [NamedImage(image, item.name)],
            options,
            deadline=deadline,
        )
        return dump_json(enrol_out(enrolled, rejected, request_id=request_id_of(item)))


async def _collection(enroller: Enroller, item: LeasedItem) -> CollectionRecord:
    record = None
    if item.job.collection_id is not None:
        record = await enroller.collections.stores.records.collections.get(item.job.collection_id)
    if record is None or record.state != "active":
        raise NotFoundError(f"there is no collection {item.job.collection!r} any more")
    return record


def _subject(item: LeasedItem, given: str | None) -> str | None:
    """Name who the image shows, as the job says: one name for all, or by each path."""
    source = item.job.options.get("subject_from")
    try:
        if source == "folder":
            return subject_of_folder(item.name)
        return subject_of_file(item.name) if source == "name" else given
    except ValueError as error:
        raise InvalidRequestError(f"{item.name!r} names no subject: {error}") from error
