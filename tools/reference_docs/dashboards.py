"""Grafana's dashboards in `deploy/grafana/dashboards/`, which `make docs` writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
_LOGS: Final = {"type": "loki", "uid": "loki"}
_WIDTH: Final = 12
_HEIGHT: Final = 8
_RATE: Final = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: its queries with their legends, and Grafana's name of the unit."""

    title: str
    unit: str
    queries: Mapping[str, str]


def _rate(metric: str, by: str, *, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{where}[{_RATE}]))"


def _quantiles(metric: str, by: str = "", *, where: str = "") -> dict[str, str]:
    legend = f" {{{{{by}}}}}" if by else ""
    labels = f"le, {by}" if by else "le"
    return {
        f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels, where=where)})": (
            f"p{quantile * 100:g}{legend}"
        )
        for quantile in (0.5, 0.95, 0.99)
    }


SERVICE: Final = (
    Panel(
        "Requests a second",
        "reqps",
        {_rate("aurum_http_requests_total", "route"): "{{route}}"},
    ),
    Panel(
        "Errors a second",
        "reqps",
        {_rate("aurum_errors_total", "code"): "{{code}}"},
    ),
    Panel(
        "Time from the complete request to its answer",
        "s",
        _quantiles("aurum_http_request_seconds"),
    ),
    Panel("Time until an engine answered", "s", _quantiles("aurum_inference_seconds", "engine")),
    Panel(
        "Requests being answered",
        "short",
        {"sum by (instance) (aurum_http_requests_in_flight)": "{{instance}}"},
    ),
    Panel(
        "Engines",
        "ops",
        {_rate("aurum_inference_seconds_count", "engine"): "{{engine}}"},
    ),
    Panel(
        "Cache: lookups by outcome",
        "ops",
        {_rate("aurum_cache_lookups_total", "layer, outcome"): "{{layer}} {{outcome}}"},
    ),
    Panel(
        "gRPC: calls a second",
        "ops",
        {_rate("aurum_grpc_calls_total", "method, status"): "{{method}} {{status}}"},
    ),
    Panel(
        "Components: 1 is up",
        "short",
        {
            "min by (part) (aurum_part_up)": "{{part}}",
            "max by (upstream) (aurum_circuit_open)": "circuit {{upstream}}",
        },
    ),
    Panel(
        "Days until a certificate ends",
        "d",
        {"(aurum_certificate_expiry_timestamp_seconds - time()) / 86400": "{{setting}}"},
    ),
)
MODELS: Final = (
    Panel(
        "Faces found a second",
        "ops",
        {_rate("aurum_faces_found_total", "instance"): "{{instance}}"},
    ),
    Panel(
        "Drift: population stability index",
        "short",
        {
            "max by (stage, measure, id) (aurum_drift_psi)": "{{stage}} {{measure}} {{id}}",
            "max(aurum_drift_psi_alert)": "alert",
        },
    ),
    Panel(
        "Golden probe: runs", "ops", {_rate("aurum_portrait_runs_total", "outcome"): "{{outcome}}"}
    ),
    Panel(
        "Golden probe: difference from the reference",
        "short",
        {
            "max(aurum_portrait_embedding_distance)": "embedding",
            "max(abs(aurum_portrait_score_difference))": "score",
            "max(abs(aurum_portrait_confidence_difference))": "confidence",
        },
    ),
    Panel(
        "Golden probe: shift",
        "short",
        {
            "max(aurum_portrait_box_shift_pixels)": "box, pixels",
            "max(aurum_portrait_landmark_shift_pixels)": "landmarks, pixels",
        },
    ),
    Panel(
        "Starts of the fallback engine",
        "short",
        {"sum(increase(aurum_fallback_starts_total[1h]))": "in an hour"},
    ),
)
JOBS: Final = (
    Panel("Jobs by state", "short", {"max by (state) (aurum_jobs)": "{{state}}"}),
    Panel(
        "Images",
        "short",
        {
            "max(aurum_job_images_waiting)": "waiting",
            "max(aurum_job_images_leased)": "held by workers",
        },
    ),
    Panel(
        "Images a second",
        "ops",
        {"max by (outcome) (rate(aurum_job_images_total[5m]))": "{{outcome}}"},
    ),
    Panel("Oldest wait", "s", {"max(aurum_job_oldest_wait_seconds)": "oldest job"}),
    Panel("Workers", "short", {"max by (operation) (aurum_job_workers)": "{{operation}}"}),
    Panel(
        "Webhooks",
        "short",
        {"sum by (outcome) (increase(aurum_job_webhooks_total[1h]))": "{{outcome}}"},
    ),
    Panel(
        "Time of calls to stores",
        "s",
        _quantiles("aurum_part_call_seconds", "part"),
    ),
)
DASHBOARDS: Final[Mapping[str, tuple[str, Sequence[Panel]]]] = {
    "service": ("Aurum: service", SERVICE),
    "models": ("Aurum: models", MODELS),
    "jobs": ("Aurum: jobs and stores", JOBS),
}


def dashboard_files() -> dict[str, str]:
    """Return the text of each dashboard by its file's name."""
    return {
        f"{name}.json": json.dumps(_dashboard(name, title, panels), indent=1) + "\n"
        for name, (title, panels) in DASHBOARDS.items()
    }


def _dashboard(name: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    graphs = [_graph(number, panel) for number, panel in enumerate(panels)]
    if name == "service":
        graphs.append(_errors_in_logs(len(panels)))
    return {
        "uid": f"aurum-{name}",
        "title": title,
        "tags": ["aurum"],
        "timezone": "utc",
        "schemaVersion": 41,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "panels": graphs,
    }


def _place(number: int) -> dict[str, int]:
    row, column = divmod(number, 2)
    return {"h": _HEIGHT, "w": _WIDTH, "x": column * _WIDTH, "y": row * _HEIGHT}


def _graph(number: int, panel: Panel) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": _SOURCE,
            "expr": query,
            "legendFormat": legend,
        }
        for place, (query, legend) in enumerate(panel.queries.items())
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": _place(number),
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def _errors_in_logs(number: int) -> dict[str, Any]:
    query = '{service=~"gateway|worker"} | json | level=~"error|critical"'
    return {
        "id": number + 1,
        "type": "logs",
        "title": "Errors in the logs",
        "datasource": _LOGS,
        "gridPos": _place(number),
        "targets": [{"refId": "A", "datasource": _LOGS, "expr": query}],
    }
