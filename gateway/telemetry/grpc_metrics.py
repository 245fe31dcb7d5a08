"""Metrics of the gateway's gRPC."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)


class GrpcMetrics:
    """Calls; the label `method` is one that the gateway knows, else `unknown`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            "aurum_grpc_calls", "Calls ended.", ["method", "status"], registry=registry
        )
        self.latency = Histogram(
            "aurum_grpc_call_seconds",
            "Seconds from the complete message to the end of a call; of a stream, of each message.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "aurum_grpc_calls_in_flight", "Calls being answered.", registry=registry
        )
