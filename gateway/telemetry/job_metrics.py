"""What Prometheus sees of jobs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

STATES: Final = ("receiving", "queued", "running", "paused", "done", "cancelled", "expired")
WEBHOOK_OUTCOMES: Final = ("delivered", "refused", "unreachable", "given_up")
OPERATIONS: Final = ("score", "detect", "embed", "enrol")
COUNTERS: Final = ("ok", "failed", "retried", "dead", "dropped")
"""Counters of workers that are exported."""


class JobMetrics:
    """Jobs of all tenants, as the records have them: every gateway exports the same figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.jobs = Gauge("aurum_jobs", "Jobs by state.", ["state"], registry=registry)
        self.waiting = Gauge(
            "aurum_job_images_waiting", "Images that wait for a worker.", registry=registry
        )
        self.leased = Gauge(
            "aurum_job_images_leased", "Images that workers hold.", registry=registry
        )
        self.oldest = Gauge(
            "aurum_job_oldest_wait_seconds",
            "Age of the oldest job with a waiting image; 0 if none waits.",
            registry=registry,
        )
        self.workers = Gauge(
            "aurum_job_workers",
            "Workers that were seen in the last 30 s, by operation that they do.",
            ["operation"],
            registry=registry,
        )
        self.images = Counter(
            "aurum_job_images",
            "What workers did since this gateway started, by outcome: ok, failed (the image ended "
            "with an error), dead (of these, after its last attempt), retried (given back for "
            "another attempt), dropped (the result came too late).",
            ["outcome"],
            registry=registry,
        )
        self.webhooks = Counter(
            "aurum_job_webhooks",
            "Deliveries that this gateway attempted, by outcome: delivered, refused, unreachable; "
            "given_up after the last attempt.",
            ["outcome"],
            registry=registry,
        )
        for outcome in COUNTERS:
            self.images.labels(outcome)
        for outcome in WEBHOOK_OUTCOMES:
            self.webhooks.labels(outcome)

    def note_webhook(self, outcome: str) -> None:
        """Count an attempt of a delivery."""
        self.webhooks.labels(outcome).inc()

    def show_workers(self, abilities: Sequence[Collection[str]]) -> None:
        """Export the number of workers; abilities: what each does, empty for everything."""
        for operation in OPERATIONS:
            able = sum(not each or operation in each for each in abilities)
            self.workers.labels(operation).set(able)

    def show_states(self, jobs: Mapping[str, int]) -> None:
        """Export the number of jobs by state."""
        for state in STATES:
            self.jobs.labels(state).set(jobs.get(state, 0))
