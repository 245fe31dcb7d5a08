"""Rank 1: what Prometheus sees of the gateway; one registry for each app."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics; `route` is the pattern of a route, never a path that a client made up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "aurum_http_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "aurum_http_request_seconds",
            "Seconds from the head of a request to its answer.",
            ["route", "method"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "aurum_http_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.errors = Counter(
            "aurum_errors", "Problems answered, by code.", ["code"], registry=self.registry
        )
        self.inference = Histogram(
            "aurum_inference_seconds",
            "Seconds that one image waited for the engine.",
            ["engine"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.faces = Counter(
            "aurum_faces_found", "Faces in answers of the engine.", registry=self.registry
        )

        self.cache_lookups = Counter(
            "aurum_cache_lookups",
            "Lookups by layer and outcome: hit, miss, error, timeout, refused, malformed.",
            ["layer", "outcome"],
            registry=self.registry,
        )
        self.cache_writes = Counter(
            "aurum_cache_writes",
            "Writes by layer and outcome: kept, error, timeout, refused, too_large.",
            ["layer", "outcome"],
            registry=self.registry,
        )
        self.cache_bytes = Counter(
            "aurum_cache_bytes",
            "Bytes of values, by layer and direction: read, written.",
            ["layer", "direction"],
            registry=self.registry,
        )
        self.cache_size = Gauge(
            "aurum_cache_size_bytes", "Bytes held in this process.", registry=self.registry
        )
        self.cache_evictions = Counter(
            "aurum_cache_evictions",
            "Images dropped from this process's layer to make room.",
            registry=self.registry,
        )
        self.shared_flights = Counter(
            "aurum_shared_flights",
            "Requests that joined the work of an identical one.",
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Render all in Prometheus' text format."""
        return generate_latest(self.registry)
