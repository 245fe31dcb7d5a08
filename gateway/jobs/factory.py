"""Opens the jobs of a gateway and runs what they need in the background."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.concurrency import BackgroundTasks
from gateway.jobs.housekeeping import Housekeeping
from gateway.jobs.measures import JobMeasures
from gateway.jobs.objects.factory import open_objects
from gateway.jobs.service import Jobs
from gateway.jobs.views import JobView
from gateway.jobs.webhook_policy import WebhookPolicy
from gateway.jobs.webhooks import Webhooks
from gateway.records.encryption import load_cipher
from gateway.records.store import RecordStore
from gateway.settings import Settings
from gateway.telemetry.job_metrics import JobMetrics


@asynccontextmanager
async def open_jobs(
    settings: Settings,
    records: RecordStore,
    background: BackgroundTasks,
    metrics: JobMetrics,
    *,
    write: Callable[[JobView], bytes],
) -> AsyncIterator[Jobs]:
    """Open the jobs until the end of the block.

    write: shapes a job for its webhook. Raises ConfigurationError for settings that cannot be
    used.
    """
    policy = WebhookPolicy.of(settings)
    async with open_objects(settings) as objects:
        jobs = Jobs(records, objects, load_cipher(settings), policy, background)
        webhooks = Webhooks(
            jobs,
            policy,
            write,
            timeout_seconds=settings.webhook_timeout_seconds,
            observer=metrics.note_webhook,
        )
        async with (
            background.running(
                "job-housekeeping",
                Housekeeping(jobs).run,
                restart_seconds=settings.retention_interval_seconds,
            ),
            background.running("job-metrics", JobMeasures(jobs, metrics).run),
            background.running("webhooks", webhooks.run),
        ):
            yield jobs
