"""The audit lines of routes: who did what in which collection, and with which outcome.

A line is on the disk before its answer is sent, and without it there is no answer.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from aiohttp import web

from gateway.api.auth import UNRESOLVED_CALLER
from gateway.api.context import context_of, services_of
from gateway.api.in_time import HANDLERS
from gateway.errors import (
    AurumError,
    ForbiddenError,
    InsufficientStorageError,
    StorageUnavailableError,
)
from gateway.records import clock
from gateway.records.types import AuditLine
from gateway.types import Caller

T = TypeVar("T")
log = logging.getLogger(__name__)

_OK: Final = "ok"
_BEGUN: Final = "begun"
"""The outcome of a stream: its line is written before it begins."""
_CLIENT_GONE: Final = "client_gone"
_UNEXPECTED: Final = "internal"
_MOST_CHARACTERS: Final = 64
"""Of the name of a collection."""
_RECEIPT_CHARACTERS: Final = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """How a route is recorded.

    kind: `read` is left out with `AURUM_AUDIT_READS=off`; `stream` is a read that answers bit by
    bit; `receipt` is a change which writes its own line, with numbers, where it succeeds.
    """

    action: str
    kind: Literal["change", "receipt", "read", "stream"]


async def audited(request: web.Request, audit: Audit | None, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work of a route and write its line; raises what the work raises.

    Raises StorageUnavailableError where the work succeeded and the line cannot be written.
    """
    reads = services_of(request).settings.audit_reads
    if audit is None or (audit.kind in ("read", "stream") and reads == "off"):
        return await work()
    if audit.kind == "stream":
        await _write(request, audit, _BEGUN)
    done = False
    try:
        answer = await work()
        done = True
    except (StorageUnavailableError, InsufficientStorageError) as error:
        # the records may be what is away: the caller does not wait for them once more
        context_of(request).notes.outcome = error.code
        request.app[HANDLERS].start("audit", _try(request, audit, error.code))
        raise
    except AurumError as error:
        await _try(request, audit, error.code)
        raise
    except Exception:
        await _try(request, audit, _UNEXPECTED)
        raise
    finally:
        # cancelled: the caller hung up, but what it asked for may have been done
        if not done and context_of(request).notes.outcome is None:
            request.app[HANDLERS].start("audit", _try(request, audit, _CLIENT_GONE))
    if audit.kind in ("change", "read"):
        await _write(request, audit, _OK)
    return answer


async def note_refusal(request: web.Request, audit: Audit | None, error: AurumError) -> None:
    """Write the line of a request that is refused before its route is reached."""
    if isinstance(error, ForbiddenError) and error.known is not None:
        tenant, name = error.known
        context_of(request).caller = Caller(tenant=tenant, name=name)
    if audit is not None:
        await _try(request, audit, error.code)


async def _try(request: web.Request, audit: Audit, outcome: str) -> None:
    """Write the line of what failed; the failure is answered in any case."""
    try:
        await _write(request, audit, outcome)
    except AurumError as error:
        log.warning(
            "an audit line is lost",
            extra={
                "request_id": context_of(request).request_id,
                "action": audit.action,
                "outcome": outcome,
                "reason": error.detail,
            },
        )


async def _write(request: web.Request, audit: Audit, outcome: str) -> None:
    context = context_of(request)
    notes = context.notes
    notes.outcome = outcome
    if context.caller is UNRESOLVED_CALLER:
        return
    path: Any = request.match_info
    collection = notes.collection or path.get("name")
    receipt = notes.receipt or path.get("job_id") or path.get("key_id") or ""
    line = AuditLine(
        at=clock.now(),
        tenant=context.caller.tenant,
        actor=context.caller.name,
        action=audit.action,
        collection=collection and _shown(collection),
        receipt=_shown(receipt)[:_RECEIPT_CHARACTERS],
        counts=dict(notes.counts),
        request_id=context.request_id,
        outcome=outcome,
    )
    await services_of(request).collections.stores.records.audit.add(line)


def _shown(name: str) -> str:
    """Write a name that a caller chose as a column can hold it."""
    return name[:_MOST_CHARACTERS].encode("utf-8", "replace").decode()
