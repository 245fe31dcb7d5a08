"""Delivers webhooks of finished jobs.

The records keep what is due, so that a delivery survives restarts. Any number of gateways may
deliver: each claims one at a time, and a claim whose gateway ends becomes due again.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar
from yarl import URL

from gateway.errors import AurumError
from gateway.jobs.service import Jobs
from gateway.jobs.views import JobView
from gateway.jobs.webhook_policy import (
    DELIVERY_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    WebhookPolicy,
    retry_delay,
    sign,
)
from gateway.records import clock
from gateway.records.job_types import JobRecord

_POLL_SECONDS: Final = 1.0
_IDLE_POLL_SECONDS: Final = 60.0
"""Without allowed hosts: only what was accepted under earlier settings is given up."""
_AT_ONCE: Final = 8
"""Deliveries at a time, so that a slow receiver does not hold up the others."""
_LEASE_MARGIN_SECONDS: Final = 30.0
_GONE: Final = 410
"""The receiver wants no further attempts."""
Observer = Callable[[str], None]
"""Called with the outcome of each delivery: delivered, refused, unreachable, given_up."""
log = logging.getLogger(__name__)


class Webhooks:
    """Sends what is due."""

    def __init__(
        self,
        jobs: Jobs,
        policy: WebhookPolicy,
        write: Callable[[JobView], bytes],
        *,
        timeout_seconds: float,
        observer: Observer = lambda _: None,
    ) -> None:
        """Send jobs as `write` shapes them; report the outcome of each attempt to `observer`."""
        self._jobs = jobs
        self._policy = policy
        self._write = write
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        self._poll_seconds = _POLL_SECONDS if policy.receivers else _IDLE_POLL_SECONDS

    async def run(self) -> None:
        """Deliver for good."""
        free = asyncio.Semaphore(_AT_ONCE)
        async with (
            ClientSession(
                timeout=ClientTimeout(total=self._timeout_seconds),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                await free.acquire()
                job = await self._claim()
                if job is None:
                    free.release()
                    await asyncio.sleep(self._poll_seconds)
                else:
                    group.create_task(_then(self._deliver(session, job), free.release))

    async def _claim(self) -> JobRecord | None:
        lease = self._timeout_seconds + _LEASE_MARGIN_SECONDS
        try:
            return await self._jobs.records.job_queue.claim_webhook(lease_seconds=lease)
        except AurumError as error:
            log.debug("no webhook can be claimed", extra={"reason": error.detail})
            return None

    async def _deliver(self, session: ClientSession, job: JobRecord) -> None:
        outcome, more = await self._send(session, job)
        retry = None if outcome == "given_up" else retry_delay(job.webhook_attempts)
        queue = self._jobs.records.job_queue
        try:
            if outcome == "delivered":
                await queue.webhook_sent(job)
            else:
                retry_at = None if retry is None else clock.now() + retry
                await queue.webhook_failed(job, retry_at=retry_at)
        except AurumError as error:
            # it becomes due again when the claim runs out
            log.warning("a webhook's outcome is not recorded", extra={"reason": error.detail})
        self._observer(outcome)
        if outcome != "delivered" and outcome != "given_up" and retry is None:
            self._observer("given_up")
        log.info(
            "webhook",
            extra={
                "job_id": job.id,
                "outcome": outcome,
                "attempt": job.webhook_attempts,
                "retry_seconds": None if retry is None else round(retry, 1),
                **more,
            },
        )

    async def _send(self, session: ClientSession, job: JobRecord) -> tuple[str, dict[str, Any]]:
        url = job.webhook_url or ""
        if not self._policy.allows(url):
            return "given_up", {"reason": "the host is not allowed any more"}
        body = self._write(JobView(job))
        timestamp = str(int(clock.now()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Aurum-Webhook",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: sign(self._policy.secret, timestamp, body),
            DELIVERY_HEADER: f"{job.id}.{job.sequence}",
        }
        try:
            # not followed: the host of a redirect was not allowed
            response = await session.post(
                URL(url), data=body, headers=headers, allow_redirects=False
            )
            # nothing of the body is needed, so it is not read
            response.close()
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            return "unreachable", {"reason": type(error).__name__}
        if 200 <= response.status < 300:
            return "delivered", {"status": response.status}
        if response.status == _GONE:
            return "given_up", {"status": response.status}
        return "refused", {"status": response.status}


async def _then(work: Coroutine[Any, Any, None], after: Callable[[], object]) -> None:
    try:
        await work
    finally:
        after()
