"""`Idempotency-Key`: a request that is sent again gets the first answer again, for a day."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from aiohttp import web

from gateway.api.call import Answer, Call, Keep, RouteHandler
from gateway.api.shapes import dump_json
from gateway.errors import ConflictError, InvalidRequestError, NotFoundError
from gateway.records.types import Answered, KeptAnswer

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
_MAX_KEY_CHARACTERS: Final = 255
_RETRY_AFTER_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Declares that a route honours `Idempotency-Key`; its answers must be `Answer`.

    The handler passes `Call.keep` on to the transaction that completes its work. Otherwise a
    gateway that is killed after it would do the work of a repeated request a second time.
    """

    named_faces: Callable[[Any], Collection[str]]
    """Ids of the faces that an answer names: when one is deleted, the kept answer goes, too."""
    failure_undoes: bool = True
    """Whether nothing is left of a request that fails, even if its last transaction succeeded."""


async def answer_once(
    call: Call[Any, Any], idempotency: Idempotency, handler: RouteHandler
) -> Answer | web.StreamResponse:
    """Answer a call; with a key, do the work once a day and answer the same again.

    Raises InvalidRequestError for a malformed key, and as `answer_under_key`.
    """
    key = read_key(call.request)
    if key is None:
        return await handler(call)
    fingerprint = call.body.fingerprint(call.request.path)

    async def work(keep: Keep) -> Any:
        return await handler(replace(call, keep=keep))

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
    work: Callable[[Keep], Awaitable[Any]],
) -> Answer | web.Response:
    """Do the work of a request with this fingerprint once a day and answer the same again.

    work: gets what its last transaction keeps the answer by. If it did not use it, nothing was
    written that a repetition would write again, and the answer is kept now.

    Raises:
        ConflictError: the key belongs to another request, or the first one is still running.
        NotFoundError: a face that the first answer names was deleted since.

    """
    records = call.services.collections.stores.records.idempotency
    tenant = call.caller.tenant
    before = await records.begin(tenant=tenant, key=key, fingerprint=fingerprint)
    if before is not None:
        return _replay(before, fingerprint)
    is_kept = False

    def kept(answer: Answer) -> KeptAnswer:
        return KeptAnswer(
            tenant,
            key,
            fingerprint,
            status=answer.status,
            body=dump_json(answer.shape).decode(),
            face_ids=tuple(idempotency.named_faces(answer.shape)),
        )

    def keep(answer: Answer) -> KeptAnswer:
        nonlocal is_kept
        is_kept = True
        return kept(answer)

    try:
        answer: Answer = await work(keep)
        if not is_kept:
            await records.finish(kept(answer))
    except BaseException:
        await records.give_back(tenant=tenant, key=key, even_if_kept=idempotency.failure_undoes)
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
