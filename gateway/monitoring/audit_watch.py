"""Anchors the audit log outside of the database, and deletes lines whose time is over."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError
from gateway.records import clock
from gateway.records.audit import AuditRecords
from gateway.records.audit_anchor import anchor_file, append_anchor
from gateway.records.audit_keys import AuditKeys, load_audit_keys
from gateway.records.types import AuditLine
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.jobs.objects.anchors import AnchorBucket

_DAY_SECONDS: Final = 86_400
CLOSE: Final = "chain_audit"
"""The action of a line which closes the lines from before the log was hashed with a key."""
_LAST_SECONDS: Final = 2.0
"""For the anchor of a gateway that stops."""
log = logging.getLogger(__name__)


class AuditWatch:
    """Appends the head of the log to a file and a bucket whenever it has changed."""

    def __init__(
        self,
        audit: AuditRecords,
        file: Path,
        bucket: "AnchorBucket | None",
        *,
        retention_days: float | None,
    ) -> None:
        """Anchor in a file and, if there is one, a bucket; retention_days None: keep all lines."""
        self._audit = audit
        self._file = file
        self._bucket = bucket
        self._retention_days = retention_days
        self._in_file = 0
        self._in_bucket = 0

    async def anchor(self) -> None:
        """Anchor the head; what fails is logged and tried again the next time."""
        try:
            head = await self._audit.head()
        except AurumError as error:
            log.warning("the audit log is anchored later", extra={"reason": error.detail})
            return
        if head.line != self._in_file:
            try:
                await asyncio.to_thread(append_anchor, self._file, head)
                self._in_file = head.line
            except OSError as error:
                log.warning("the audit log cannot be anchored", extra={"reason": error.strerror})
        if self._bucket is not None and head.line != self._in_bucket:
            try:
                await self._bucket.put(head)
                self._in_bucket = head.line
            except AurumError as error:
                log.warning("the audit log cannot be anchored", extra={"reason": error.detail})

    async def expire(self) -> None:
        """Delete lines whose time is over."""
        if self._retention_days is None:
            return
        now = clock.now()
        try:
            removed = await self._audit.expire(
                before=now - self._retention_days * _DAY_SECONDS, at=now
            )
        except AurumError as error:
            log.warning("audit lines expire later", extra={"reason": error.detail})
            return
        if removed:
            log.info("audit lines have expired", extra={"lines": removed})


async def _close_old_lines(audit: AuditRecords, keys: AuditKeys) -> None:
    """Cover lines from before the log was hashed with a key; complain about a foreign key."""
    head = await audit.head()
    if head.line and head.key_id is None:
        line = AuditLine(
            at=clock.now(),
            tenant="",
            actor="migration",
            action=CLOSE,
            collection=None,
            receipt=str(head.line),
            counts={"lines": await audit.count()},
            request_id=None,
        )
        await audit.add(line)
    elif head.key_id is not None and head.key_id not in keys.by_id:
        log.error("the audit log has a key that the file does not have", extra={"key": head.key_id})


@asynccontextmanager
async def watch_audit(
    settings: Settings, audit: AuditRecords, background: BackgroundTasks
) -> AsyncIterator[AuditWatch]:
    """Anchor and expire until the end of the block, and anchor once more at its end.

    Raises ConfigurationError for a bucket that cannot be one.
    """
    bucket = None
    if settings.audit_anchor_url is not None:
        # loaded where a bucket is used
        from gateway.jobs.objects.anchors import AnchorBucket

        bucket = AnchorBucket.open(settings, settings.audit_anchor_url)
    watch = AuditWatch(
        audit, anchor_file(settings), bucket, retention_days=settings.audit_retention_days
    )

    keys = load_audit_keys(settings)

    async def keep_anchoring() -> None:
        await _close_old_lines(audit, keys)
        while True:
            await watch.anchor()
            await asyncio.sleep(settings.audit_anchor_seconds)

    async def keep_expiring() -> None:
        while True:
            await watch.expire()
            await asyncio.sleep(settings.retention_interval_seconds)

    async with (
        background.running("audit-anchor", keep_anchoring),
        background.running("audit-retention", keep_expiring),
    ):
        yield watch
    try:
        async with asyncio.timeout(_LAST_SECONDS):
            await watch.anchor()
    except TimeoutError:
        log.warning("the audit log was not anchored at the end")
