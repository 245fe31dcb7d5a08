"""Converts people, receipts and entries of lists to the shapes of answers."""

from gateway.api.collections.consent import moment
from gateway.api.collections.serializers import subject_out
from gateway.api.people.schemas import (
    ErasedOut,
    ErasureOut,
    PeopleOut,
    PersonOut,
    RefusalOut,
    RemainOut,
)
from gateway.collections.people import Erasure, FoundPeople
from gateway.collections.refusals import Listed
from gateway.records.erasures import KEPT_SECONDS
from gateway.settings import Settings


def people_out(found: FoundPeople, *, request_id: str) -> PeopleOut:
    """Shape candidates."""
    return PeopleOut(
        request_id=request_id,
        people=[
            PersonOut(
                **subject_out(person.subject).model_dump(),
                collection=person.collection.name,
                similarity=None if person.similarity is None else round(person.similarity, 6),
            )
            for person in found.people
        ],
        not_searched=list(found.not_searched),
    )


def erasure_out(erasure: Erasure, settings: Settings, *, request_id: str) -> ErasureOut:
    """Shape a receipt."""
    return ErasureOut(
        request_id=request_id,
        receipt=erasure.receipt,
        at=moment(erasure.at),
        erased=[
            ErasedOut(
                collection=each.collection,
                subject=each.subject,
                receipt=each.receipt.receipt,
                faces=each.receipt.faces,
                vectors=each.receipt.vectors,
                crops=each.receipt.crops,
                cached_answers=each.receipt.cached_answers,
                job_results=each.receipt.job_results,
                do_not_enrol=list(each.entries),
            )
            for each in erasure.people
        ],
        remains=_remains(erasure, settings),
    )


def refusal_out(listed: Listed) -> RefusalOut:
    """Shape an entry of a list."""
    entry = listed.entry
    return RefusalOut(
        entry_id=entry.id,
        reason=entry.reason,
        created_at=moment(entry.created_at),
        created_by=entry.created_by,
        space=entry.space,
        has_crop=entry.crop is not None,
        compared=listed.is_compared,
    )


def _remains(erasure: Erasure, settings: Settings) -> list[RemainOut]:
    """List what is left; `docs/privacy.md` explains each of them."""
    on_server = settings.qdrant_url is not None
    purged = erasure.at + settings.vector_purge_seconds
    url = settings.database_url
    on_postgresql = url is not None and url.get_secret_value().startswith("postgres")
    erased_from_file = erasure.at + settings.retention_interval_seconds
    remains = [
        RemainOut(
            what="bytes of the vectors in the files of the vector engine",
            until=None if on_server else moment(purged),
            why="the Qdrant server rewrites its files when its optimizer decides to"
            if on_server
            else "the files are rewritten from this time on; nothing finds the vectors until then",
        ),
        RemainOut(
            what="bytes of the deleted records in the files of the database",
            until=None if on_postgresql else moment(erased_from_file),
            why="PostgreSQL overwrites them after a VACUUM"
            if on_postgresql
            else "the database empties its log by then; nothing finds the records until then",
        ),
        RemainOut(
            what="lines of the audit log",
            until=None,
            why="they show that the data was deleted, and name no person",
        ),
        RemainOut(
            what="notes of the erasure: digests of the name and the images",
            until=moment(erasure.at + KEPT_SECONDS),
            why="jobs that were made before must not enrol the person again; "
            "kept longer while such a job has not expired",
        ),
        RemainOut(
            what="images of jobs that were being uploaded just then",
            until=None,
            why="those that show or name the person are deleted when their upload ends",
        ),
        RemainOut(
            what="other images of the person in jobs that do not name them",
            until=None,
            why="only images with the bytes of an enrolled one are found; they go with their job",
        ),
        RemainOut(
            what="backups, logs of proxies, and what callers have stored themselves",
            until=None,
            why="the service does not reach them",
        ),
    ]
    if settings.cache == "on":
        remains.append(
            RemainOut(
                what="cached answers in the memory of other gateways",
                until=moment(erasure.at + settings.cache_memory_ttl_seconds),
                why="each process keeps an answer for this long",
            )
        )
    if any(each.entries for each in erasure.people):
        remains.append(
            RemainOut(
                what="entries of do-not-enrol lists",
                until=None,
                why="they were asked for; they are kept until somebody removes them",
            )
        )
    return remains
