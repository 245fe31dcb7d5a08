"""Creates jobs: checks what is asked for, receives the images, submits the job."""

import uuid
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.api.auth import Permission
from gateway.api.call import Answer, Call, Keep
from gateway.api.idempotency import Idempotency, answer_under_key, read_key
from gateway.api.jobs.serializers import job_answer
from gateway.api.jobs.upload_body import check_head, receive_images
from gateway.api.jobs.upload_schemas import ENROL_OPTIONS, FACE_OPTIONS, BatchOptions
from gateway.api.shapes import NoOptions
from gateway.api.streams import STREAMS, StoppingError
from gateway.collections.base import check_metadata
from gateway.concurrency import composed
from gateway.errors import InvalidRequestError, RateLimitedError
from gateway.jobs.views import JobView
from gateway.records import clock
from gateway.records.job_types import JobRecord
from gateway.records.types import CollectionRecord

_IDEMPOTENCY: Final = Idempotency(lambda _: ())


async def create_job(call: Call[BatchOptions, NoOptions]) -> Answer | web.StreamResponse:
    """Receive a job of many images."""
    uploads = call.services.uploads
    key = read_key(call.request)
    await check_head(call.request, uploads)
    call.context.notes.collection = call.options.collection
    job = await _new_job(call)
    call.context.notes.receipt = job.id
    async with uploads.receive(job) as upload:
        await receive_images(call.request, uploads, upload)
        digest = await upload.finish()

        async def submit(keep: Keep | None = None) -> Answer:
            services = call.services
            call.context.notes.counts["images"] = upload.total
            await services.collections.quotas.charge_images(call.caller.tenant, upload.total)
            view = await services.jobs.new_views()

            def answer(new: JobRecord) -> Answer:
                return _answer(call, view(new))

            return answer(await upload.submit(composed(keep, answer)))

        outcome = await uploads.carry_through(
            submit() if key is None else answer_under_key(call, key, digest, _IDEMPOTENCY, submit)
        )
    if not upload.is_submitted:
        return _located(outcome)
    if call.options.wait:
        return await _wait(call, job.id, outcome)
    return outcome


async def _new_job(call: Call[BatchOptions, NoOptions]) -> JobRecord:
    """Check the options.

    Raises:
        InvalidRequestError: options that do not fit together.
        ForbiddenError: the caller may not enrol, or the webhook goes to a host that is not allowed.
        NotFoundError: there is no such collection.

    """
    options, services = call.options, call.services
    _refuse_foreign(options)
    collection = await _collection(call) if options.operation == "enrol" else None
    webhook = options.webhook
    return JobRecord(
        id=str(uuid.uuid4()),
        tenant=call.caller.tenant,
        actor=call.caller.name,
        operation=options.operation,
        created_at=clock.now(),
        options=_options_of(options),
        collection_id=None if collection is None else collection.id,
        collection=None if collection is None else collection.name,
        retention_seconds=services.settings.job_retention_hours * 3600,
        webhook_url=None if webhook is None else services.jobs.webhook_policy.check(webhook),
    )


def _refuse_foreign(options: BatchOptions) -> None:
    """Refuse options of another operation."""
    foreign = ("include",) if options.operation == "enrol" else ("collection", *ENROL_OPTIONS)
    for name in foreign:
        if name in options.model_fields_set:
            message = f"query parameter {name!r} does not belong to operation={options.operation}"
            raise InvalidRequestError(message)
    if options.subject is not None and options.subject_from is not None:
        raise InvalidRequestError("subject and subject_from are given; send one")


async def _collection(call: Call[BatchOptions, NoOptions]) -> CollectionRecord:
    services = call.services
    # the route itself asks for less, as its other operations need no more
    await services.authorizer.authorize(call.request.headers, Permission.ENROL)
    if call.options.collection is None:
        raise InvalidRequestError("operation=enrol needs the query parameter 'collection'")
    check_metadata(
        call.options.metadata, max_entries=services.collections.limits.max_metadata_entries
    )
    return await services.collections.stores.collection(call.caller, call.options.collection)


def _options_of(options: BatchOptions) -> dict[str, Any]:
    """Return the options that the worker needs: those of the operation's own route."""
    names = FACE_OPTIONS + (ENROL_OPTIONS if options.operation == "enrol" else ("include",))
    return options.model_dump(mode="json", include=set(names))


def _answer(call: Call[BatchOptions, NoOptions], view: JobView, status: int = 202) -> Answer:
    return Answer(
        job_answer(view, request_id=call.request_id),
        status=status,
        headers=_location(view.record.id),
    )


async def _wait(
    call: Call[BatchOptions, NoOptions], job_id: str, accepted: Answer | web.StreamResponse
) -> Answer | web.StreamResponse:
    jobs = call.services.jobs
    job = await jobs.find(call.caller, job_id)
    try:
        async with call.request.app[STREAMS].until_stop():
            job = await jobs.wait(call.caller, job, seconds=call.options.wait)
    except (StoppingError, RateLimitedError):
        # the job is accepted all the same
        return accepted
    return _answer(call, await jobs.view(job), status=200) if job.is_finished else accepted


def _located(replayed: Answer | web.StreamResponse) -> Answer | web.StreamResponse:
    """Add the address of the job to an answer that is given again."""
    if isinstance(replayed, web.Response) and replayed.text:
        replayed.headers.update(_location(orjson.loads(replayed.text)["job_id"]))
    return replayed


def _location(job_id: str) -> dict[str, str]:
    return {"Location": f"/api/ml/jobs/{job_id}"}
