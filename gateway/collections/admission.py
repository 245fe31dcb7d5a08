"""Lets faces into a collection: quota, do-not-enrol list, consent; then they are enrolled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gateway.collections.base import Enrolled, FaceCandidate, Stores
from gateway.collections.enrol import Enrolment, ListChangedError
from gateway.collections.refusals import Refusals
from gateway.concurrency import composed
from gateway.deadline import Deadline
from gateway.errors import NotFoundError
from gateway.records.types import CollectionRecord, KeptAnswer, Terms
from gateway.security.quotas import Quotas

REFUSED = "this person is not to be enrolled in this collection"
"""The detail for a face that the list has. It does not say which entry."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Enrolled faces, and candidates that the collection's list refuses."""

    enrolled: tuple[Enrolled, ...]
    refused: tuple[FaceCandidate, ...]


KeepAdmitted = Callable[[Admitted], KeptAnswer]
"""Makes of what a request enrolled, and did not, the answer that is kept."""


class Admission:
    """Decides about new faces."""

    def __init__(
        self, stores: Stores, enrolment: Enrolment, refusals: Refusals, quotas: Quotas
    ) -> None:
        self._stores = stores
        self._enrolment = enrolment
        self._refusals = refusals
        self._quotas = quotas

    async def enrol(
        self,
        collection: CollectionRecord,
        candidates: Sequence[FaceCandidate],
        terms: Terms,
        *,
        deadline: Deadline,
        all_or_none: bool = False,
        kept: KeepAdmitted | None = None,
    ) -> Admitted:
        """Enrol those that are not refused.

        all_or_none: enrol none if one is refused.
        kept: makes the answer that is kept in the transaction that enrols.

        Raises:
            ForbiddenError: the quota of the tenant is used up.
            ConsentRequiredError, EnrolmentRefusedError, ConflictError: as `Enrolment.enrol`.

        """
        await self._quotas.check_faces(collection.tenant, len(candidates))
        while True:
            changes, refused = await self._refusals.compare(
                collection, candidates, deadline=deadline
            )
            out = tuple(candidates[position] for position in sorted(refused))
            left = [each for n, each in enumerate(candidates) if n not in refused]
            if out and all_or_none:
                return Admitted((), out)
            required = collection.settings.requires_consent
            agreed = replace(terms, refusals=changes, requires_consent=required)
            try:
                enrolled = await self._enrolment.enrol(
                    collection,
                    left,
                    deadline=deadline,
                    terms=agreed,
                    kept=composed(kept, partial(Admitted, refused=out)),
                )
            except ListChangedError:
                deadline.remaining_seconds()
                collection = await self._again(collection)
            else:
                return Admitted(enrolled, out)

    async def _again(self, collection: CollectionRecord) -> CollectionRecord:
        found = await self._stores.records.collections.get(collection.id)
        if found is None or found.state != "active":
            raise NotFoundError(f"collection {collection.name} was just deleted")
        return found
