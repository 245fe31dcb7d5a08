"""`Idempotency-Key`: a request that is sent again gets the first answer again, for a day."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway.api.call import Answer, Call
from gateway.api.shapes import dump_json
from gateway.errors import ConflictError, InvalidRequestError, NotFoundError
from gateway.records.types import Answered

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
_MAX_KEY_CHARACTERS: Final = 255
_RETRY_AFTER_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Declares that a route honours `Idempotency-Key`; its answers must be `Answer`."""

    named_faces: Callable[[Any], Collection[str]]
    """Ids of the faces that an answer names: when one is deleted, the kept answer goes, too."""


async def answer_once(
    call: Call[Any, Any],
    idempotency: Idempotency,
    work: Callable[[], Any],
) -> Answer | web.StreamResponse:
    """Do the work; with a key, do it once a day and answer the same again.

    Raises InvalidRequestError for a malformed key, and as `answer_under_key`.
    """
    key = read_key(call.request)
    if key is None:
        outcome: Answer | web.StreamResponse = await work()
        return outcome
    fingerprint = call.body.fingerprint(call.request.path)
    return await answer_under_key(call, key, fingerprint, idempotency, work)


def read_key(request: web.Request) -> str | None:
    """Return the key of a request; raises InvalidRequestError for a malformed one."""
    key = request.headers.get(KEY_HEADER)
    if key is not None and (not 0 < len(key) <= _MAX_KEY_CHARACTERS or not key.isprintable()):
        message = f"{KEY_HEADER} must be 1 to {_MAX_KEY_CHARACTERS} printable characters"
        raise InvalidRequestError(message)
    return key


async def answer_under_key(
    call: Call[Any, Any],
    key: str,
    fingerprint: str,
    idempotency: Idempotency,
    work: Callable[[], Any],
) -> Answer | web.Response:
    """Do the work of a request with this fingerprint once a day and answer the same again.

    Raises:
        ConflictError: the key belongs to another request, or the first one is still running.
        NotFoundError: a face that the first answer names was deleted since.

    """
    records = call.services.collections.stores.records.idempotency
    tenant = call.caller.tenant
    before = await records.begin(tenant=tenant, key=key, fingerprint=fingerprint)
    if before is not None:
        return _replay(before, fingerprint)
    try:
        answer: Answer = await work()
        await records.finish(
            tenant=tenant,
            key=key,
            status=answer.status,
            body=dump_json(answer.shape).decode(),
            face_ids=idempotency.named_faces(answer.shape),
        )
    except BaseException:
        await records.give_back(tenant=tenant, key=key)
        raise
    return answer


def _replay(before: Answered, fingerprint: str) -> web.Response:
    if before.fingerprint != fingerprint:
        raise ConflictError(f"{KEY_HEADER} was used for another request")
    if before.status is None:
        raise ConflictError(
            f"the first request with this {KEY_HEADER} is still running",
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )
    if before.body is None:
        message = f"what the first request with this {KEY_HEADER} enrolled was deleted"
        raise NotFoundError(message)
    return web.Response(
        text=before.body,
        status=before.status,
        content_type="application/json",
        headers={REPLAYED_HEADER: "true"},
    )
