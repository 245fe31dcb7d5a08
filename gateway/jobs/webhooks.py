"""Delivers webhooks of finished jobs.

The records keep what is due, so that a delivery survives restarts. Any number of gateways may
deliver: each claims one at a time, and a claim whose gateway ends becomes due again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from gateway.errors import AurumError
from gateway.jobs.service import Jobs
from gateway.jobs.views import JobView, make_view
from gateway.jobs.webhook_policy import (
    DELIVERY_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    WebhookPolicy,
    origin_of,
    retry_delay,
    sign,
)
from gateway.outbound.connector import open_session
from gateway.outbound.policy import OperatorsHosts
from gateway.records import clock
from gateway.records.job_types import JobRecord

_POLL_SECONDS: Final = 1.0
_IDLE_POLL_SECONDS: Final = 60.0
"""Without allowed hosts: only what was accepted under earlier settings is given up."""
_AT_ONCE: Final = 64
_AT_ONCE_OF_A_RECEIVER: Final = 8
"""Deliveries at a time, so that slow receivers do not hold up the others."""
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
        under_way: Counter[str] = Counter()
        ended = asyncio.Event()
        async with (
            open_session(OperatorsHosts(), at_once=_AT_ONCE) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                await free.acquire()
                ended.clear()
                job = await self._claim(under_way)
                if job is None:
                    free.release()
                    await self._pause(ended if under_way else None)
                    continue
                origin = _origin(job)
                under_way[origin] += 1

                def after(origin: str = origin) -> None:
                    under_way[origin] -= 1
                    if not under_way[origin]:
                        del under_way[origin]
                    free.release()
                    ended.set()

                group.create_task(_then(self._deliver(session, job), after))

    async def _pause(self, ended: asyncio.Event | None) -> None:
        """Wait until something may be due; or until a delivery ended that others waited for."""
        if ended is None:
            await asyncio.sleep(self._poll_seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_seconds):
                await ended.wait()

    async def _claim(self, under_way: Mapping[str, int]) -> JobRecord | None:
        lease = self._timeout_seconds + _LEASE_MARGIN_SECONDS
        busy = [each for each, number in under_way.items() if number >= _AT_ONCE_OF_A_RECEIVER]
        try:
            return await self._jobs.records.job_queue.claim_webhook(
                lease_seconds=lease, except_origins=busy
            )
        except AurumError as error:
            log.debug("no webhook can be claimed", extra={"reason": error.detail})
            return None

    async def _deliver(self, session: ClientSession, job: JobRecord) -> None:
        outcome, more = await self._send(session, job)
        retry = None if outcome == "given_up" else retry_delay(job.webhook_attempts)
        if retry is not None and _is_expired(job, at=clock.now() + retry):
            retry = None
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
        if _is_expired(job, at=clock.now()):
            return "given_up", {"reason": "the job has expired"}
        # an ended job needs no workers to be described
        body = self._write(make_view(job, {}, workers=(), delayed=None, now=clock.now()))
        timestamp = str(int(clock.now()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "Aurum-Webhook",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: sign(self._policy.secret_of(job.tenant), timestamp, body),
            DELIVERY_HEADER: f"{job.id}.{job.sequence}",
        }
        try:
            # not followed: the host of a redirect was not allowed
            response = await session.post(
                URL(url),
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=ClientTimeout(total=self._timeout_seconds),
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


def _origin(job: JobRecord) -> str:
    try:
        return origin_of(job.webhook_url or "")
    except ValueError:
        # not delivered to
        return ""


def _is_expired(job: JobRecord, *, at: float) -> bool:
    """Whether its results are, or will be, deleted at that time."""
    return job.state == "expired" or (job.expires_at is not None and job.expires_at <= at)


async def _then(work: Coroutine[Any, Any, None], after: Callable[[], object]) -> None:
    try:
        await work
    finally:
        after()
