"""What Prometheus sees of what this service fetches."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter

OUTCOMES: Final = (
    "fetched",
    "cancelled",
    "image_url_refused",
    "image_url_failed",
    "image_too_large",
    "unsupported_media_type",
)


class OutboundMetrics:
    """Fetches of images that callers named by a URL."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._images = Counter(
            "aurum_image_urls",
            "Images that callers named by a URL, by outcome: fetched, cancelled (the caller hung "
            "up), or the code of the error.",
            ["outcome"],
            registry=registry,
        )
        for outcome in OUTCOMES:
            self._images.labels(outcome)

    def note_image(self, outcome: str) -> None:
        """Count a fetch."""
        self._images.labels(outcome).inc()
