"""Metrics of the limits of callers; no label names a caller."""

from prometheus_client import CollectorRegistry, Counter


class LimitMetrics:
    """What was refused, and where the use of callers is counted."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused = Counter(
            "aurum_limit_refusals",
            "Requests refused by a limit of their caller, by policy: requests, megapixels, "
            "concurrent.",
            ["policy"],
            registry=registry,
        )
        self.checks = Counter(
            "aurum_limit_checks",
            "Checks of limits, by where the use of the caller is counted: redis, memory.",
            ["store"],
            registry=registry,
        )
