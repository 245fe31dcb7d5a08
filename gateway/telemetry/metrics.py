"""The gateway's Prometheus metrics; each app has its own registry."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.telemetry.grpc_metrics import GrpcMetrics
from gateway.telemetry.job_metrics import JobMetrics
from gateway.telemetry.limit_metrics import LimitMetrics
from gateway.telemetry.outbound_metrics import OutboundMetrics
from gateway.telemetry.tls_metrics import TlsMetrics
from triton_python_backend.contract import FACE_OUTPUTS

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_RECEIVING_SECONDS = (0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """All metrics; the label `route` is a route's pattern, never the path that a client sent."""

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
            "Seconds from the complete request to the response.",
            ["route", "method"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.receiving = Histogram(
            "aurum_http_receiving_seconds",
            "Seconds from the request's head to the end of its body.",
            ["route"],
            buckets=_RECEIVING_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "aurum_http_requests_in_flight", "Requests being answered.", registry=self.registry
        )
        self.errors = Counter(
            "aurum_errors", "Error responses, by problem code.", ["code"], registry=self.registry
        )
        self.task_crashes = Counter(
            "aurum_background_task_crashes",
            "Background tasks that failed unexpectedly, by task.",
            ["task"],
            registry=self.registry,
        )
        self.inference = Histogram(
            "aurum_inference_seconds",
            "Seconds until an engine (triton, fallback) answered for one image.",
            ["engine"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.faces = Counter(
            "aurum_faces_found", "Faces that the inference engine found.", registry=self.registry
        )
        self.fallback_starts = Counter(
            "aurum_fallback_starts",
            "Starts of the fallback engine's process.",
            registry=self.registry,
        )

        self.cache_lookups = Counter(
            "aurum_cache_lookups",
            "Cache lookups, by layer and outcome: hit, miss, error, timeout, refused, malformed.",
            ["layer", "outcome"],
            registry=self.registry,
        )
        self.cache_writes = Counter(
            "aurum_cache_writes",
            "Cache writes, by layer and outcome: kept, error, timeout, refused, too_large.",
            ["layer", "outcome"],
            registry=self.registry,
        )
        self.cache_bytes = Counter(
            "aurum_cache_bytes",
            "Bytes of cached values, by layer and direction: read, written.",
            ["layer", "direction"],
            registry=self.registry,
        )
        self.cache_size = Gauge(
            "aurum_cache_size_bytes", "Bytes in this process's cache layer.", registry=self.registry
        )
        self.cache_evictions = Counter(
            "aurum_cache_evictions",
            "Images evicted from this process's cache layer.",
            registry=self.registry,
        )
        self.shared_flights = Counter(
            "aurum_shared_flights",
            "Requests that waited for an identical request's result.",
            registry=self.registry,
        )
        self.parts = PartMetrics(self.registry)
        self.portrait = PortraitMetrics(self.registry)
        self.drift = DriftMetrics(self.registry)
        self.jobs = JobMetrics(self.registry)
        self.limits = LimitMetrics(self.registry)
        self.grpc = GrpcMetrics(self.registry)
        self.tls = TlsMetrics(self.registry)
        self.outbound = OutboundMetrics(self.registry)

    def text(self) -> bytes:
        """Render all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class PartMetrics:
    """Health and calls of the vector store and the records database."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "aurum_part_up",
            "1 if the part answered the last health check, by part: vectors, records.",
            ["part"],
            registry=registry,
        )
        self.seconds = Histogram(
            "aurum_part_probe_seconds",
            "Seconds of a part's health check, which runs every two seconds.",
            ["part"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.calls = Histogram(
            "aurum_part_call_seconds",
            "Seconds of a call to a part, by operation and outcome: ok, error.",
            ["part", "operation", "outcome"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.circuit_open = Gauge(
            "aurum_circuit_open",
            "1 while the circuit breaker is open and calls to the upstream are rejected, by "
            "upstream: triton, redis, redis_limits, qdrant, records.",
            ["upstream"],
            registry=registry,
        )
        self.collections = Gauge(
            "aurum_vectors_collections",
            "Vector collections; each collection has one for each embedding space.",
            registry=registry,
        )
        self.engine_starts = Gauge(
            "aurum_vectors_engine_starts",
            "Starts of Qdrant Edge's process; more than 1 means that it crashed.",
            registry=registry,
        )
        self.engine_memory = Gauge(
            "aurum_vectors_engine_memory_bytes",
            "Resident memory of Qdrant Edge's process; 0 without one.",
            registry=registry,
        )

    def circuit(self, upstream: str) -> Callable[[bool], None]:
        """Export the state of an upstream's circuit; returns its observer."""
        gauge = self.circuit_open.labels(upstream)
        gauge.set(0)
        return gauge.set


class PortraitMetrics:
    """Results of the golden probe; NaN where there is nothing to compare with."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            found = Gauge(f"aurum_portrait_{name}", text, registry=registry)
            found.set(math.nan)
            return found

        self.runs = Counter(
            "aurum_portrait_runs",
            "Probes that this gateway sent, by outcome: ok, no_face, or the code of an error.",
            ["outcome"],
            registry=registry,
        )
        self._gauges = {
            "seconds": gauge("seconds", "Seconds of the last probe."),
            "box_pixels": gauge("box_shift_pixels", "Largest shift of an edge of the face's box."),
            "landmark_pixels": gauge("landmark_shift_pixels", "Largest shift of a landmark."),
            "confidence": gauge("confidence_difference", "Confidence now minus the reference."),
        }
        self._moved = {
            output.name: gauge(
                f"{output.name}_difference", f"{output.name.title()} now minus the reference."
            )
            if output.is_number
            else gauge(
                f"{output.name}_distance", "1 minus the cosine between now and the reference."
            )
            for output in FACE_OUTPUTS
            if output.tolerance is not None
        }
        self._success = Gauge(
            "aurum_portrait_last_success_timestamp_seconds",
            "Time when the face was last found, seconds since 1970.",
            registry=registry,
        )
        self._success.set(math.nan)
        self._golden = Gauge(
            "aurum_portrait_golden",
            "1 if a stage is compared with its golden answer, 0 if with its own first answer.",
            ["stage"],
            registry=registry,
        )

    def show(self, report: Mapping[str, Any]) -> None:
        """Export the fields of a `Report`."""
        for name, gauge in self._gauges.items():
            gauge.set(report[name])
        for name, gauge in self._moved.items():
            gauge.set(report["moved"].get(name, math.nan))
        if report["outcome"] == "ok":
            self._success.set(report["at"])
        self._golden.clear()
        for stage, golden in report["golden"].items():
            self._golden.labels(stage).set(golden)


class DriftMetrics:
    """Drift: recent faces compared with the reference of the active weights."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["stage", "measure", "id"]
        self.psi = Gauge(
            "aurum_drift_psi",
            "Population stability index of recent faces, by weights.",
            labels,
            registry=registry,
        )
        self.faces = Gauge(
            "aurum_drift_faces", "How many faces that are.", labels, registry=registry
        )
        self.alert = Gauge(
            "aurum_drift_psi_alert",
            "The setting AURUM_DRIFT_PSI_ALERT, for alert rules.",
            registry=registry,
        )

    def forget(self, stage: str, identifier: str, *, measures: Iterable[str]) -> None:
        """Remove the series of weights that are no longer active."""
        for measure in measures:
            for gauge in (self.psi, self.faces):
                gauge.remove(stage, measure, identifier)
