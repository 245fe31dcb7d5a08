"""Metrics of certificates."""

from prometheus_client import CollectorRegistry, Gauge


class TlsMetrics:
    """When certificates end, by the setting that names their file."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.expires = Gauge(
            "aurum_certificate_expiry_timestamp_seconds",
            "Time when a certificate ends, seconds since 1970, by setting.",
            ["setting"],
            registry=registry,
        )
