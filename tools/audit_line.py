"""The audit lines of commands that work on the records directly."""

from collections.abc import Mapping
from typing import Final

from gateway.records import clock
from gateway.records.audit import AuditRecords
from gateway.records.types import AuditLine

BEGUN: Final = "begun"
"""The outcome of what is recorded before it begins."""
ALL_TENANTS: Final = ""
"""The tenant of lines that concern all of them; no tenant has this name."""


async def note_command(
    audit: AuditRecords,
    action: str,
    *,
    actor: str,
    tenant: str = ALL_TENANTS,
    counts: Mapping[str, int] | None = None,
    outcome: str = "ok",
) -> None:
    """Write a line; it is durable when this returns. Raises as `AuditRecords.add`.

    actor: the command.
    """
    line = AuditLine(
        at=clock.now(),
        tenant=tenant,
        actor=actor,
        action=action,
        collection=None,
        receipt="",
        counts=counts or {},
        request_id=None,
        outcome=outcome,
    )
    await audit.add(line)
