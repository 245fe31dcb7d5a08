"""`Idempotency-Key`: a request that is sent again gets the first answer again, for a day."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.api.call import Answer, Call, Keep, RouteHandler
from gateway.api.shapes import dump_json
from gateway.deadline import Deadline
from gateway.errors import ConflictError, InvalidRequestError, NotFoundError
from gateway.records.idempotency import IdempotencyRecords
from gateway.records.types import Answered, Claim, KeptAnswer

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
_MAX_KEY_CHARACTERS: Final = 255
_RETRY_AFTER_SECONDS: Final = 1
_WAITING_SHARE: Final = 0.65
"""Share of its deadline that a request waits for another request with the same key."""
_BEYOND_LEASE_SECONDS: Final = 2.0
"""Longer than a lease: the clocks of gateways do not count, but each look takes its time."""
_FIRST_LOOK_SECONDS: Final = 0.05
_LONGEST_LOOK_SECONDS: Final = 0.4


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Declares that a route honours `Idempotency-Key`; its answers must be `Answer`.

    The handler passes `Call.keep` on to the transaction that completes its work. Otherwise a
    gateway that is killed after it, or is paused until another one has taken the key over, would
    do the work of a repeated request a second time.
    """

    named_faces: Callable[[Any], Collection[str]]
    """Ids of the faces that an answer names: when one is deleted, the kept answer goes, too."""


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

    # what is left then is for the work itself
    patience = call.deadline.part(_WAITING_SHARE)
    return await answer_under_key(call, key, fingerprint, idempotency, work, patience=patience)


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
    *,
    patience: Deadline | None = None,
) -> Answer | web.Response:
    """Do the work of a request with this fingerprint once a day and answer the same again.

    While another request with the key runs, wait for its answer, or until it can be taken over
    because its process is gone.

    Args:
        call: the request.
        key: names it, within its tenant.
        fingerprint: of what is asked for.
        idempotency: as the route declares it.
        work: gets what its last transaction keeps the answer by. If it did not use it, nothing was
            written that a repetition would write again, and the answer is kept now.
        patience: until when to wait, if that is shorter than the lease of a process.

    Raises:
        ConflictError: the key belongs to another request, or the first one is still running.
        NotFoundError: a face that the first answer names was deleted since.

    """
    records = call.services.collections.stores.records
    async with records.presence.lasting():
        longest = Deadline.after(records.presence.lease_seconds + _BEYOND_LEASE_SECONDS)
        until = longest if patience is None else min(longest, patience, key=lambda each: each.at)
        taken = await _take(records.idempotency, call.caller.tenant, key, fingerprint, until)
        if isinstance(taken, Answered):
            return _replay(taken, fingerprint)
        return await _work_once(records.idempotency, taken, idempotency, work)


async def _take(
    records: IdempotencyRecords, tenant: str, key: str, fingerprint: str, until: Deadline
) -> Claim | Answered:
    """Take the key, or wait until its request has an answer or the time is over."""
    begin = partial(records.begin, tenant=tenant, key=key, fingerprint=fingerprint)
    taken = await begin()
    if records.waiting.locked():
        return taken
    async with records.waiting:
        pause = _FIRST_LOOK_SECONDS
        while (
            isinstance(taken, Answered)
            and taken.status is None
            and taken.fingerprint == fingerprint
            and until.allows(pause)
        ):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK_SECONDS)
            taken = await begin(again=True)
    return taken


async def _work_once(
    records: IdempotencyRecords,
    claim: Claim,
    idempotency: Idempotency,
    work: Callable[[Keep], Awaitable[Any]],
) -> Answer:
    is_kept = False

    def kept(answer: Answer) -> KeptAnswer:
        return KeptAnswer(
            claim,
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
        await records.give_back(claim)
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
