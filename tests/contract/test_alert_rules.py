"""The alert rules fit the gateway's metrics and settings, and `promtool` accepts them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from gateway.monitoring import golden_probe
from gateway.settings import CHECKOUT
from gateway.telemetry.metrics import Metrics
from tests.support.prerequisites import is_missing

RULES = sorted((CHECKOUT / "deploy" / "prometheus").glob("*.rules.yml"))
ALERTS: dict[str, Any] = {
    rule["alert"]: rule
    for file in RULES
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
}
_DRIFT = 'instance="a",job="g",id="1",stage="s"'
SERIES = {
    'aurum_part_up{part="vectors"}': "1 1 1 0x10",
    'aurum_part_up{part="records"}': "1x15",
    'aurum_portrait_runs_total{outcome="ok"}': "1+1x60",
    'aurum_portrait_runs_total{outcome="no_face"}': "0x20 1+1x40",
    "aurum_portrait_last_success_timestamp_seconds": "0+60x20 1200x40",
    "aurum_portrait_embedding_distance": "0x10 0.02x20 0x30",
    "aurum_portrait_score_difference": "-0.05x60",
    'aurum_drift_psi_alert{instance="a",job="g"}': "0.25x99",
    f'aurum_drift_psi{{measure="size",{_DRIFT}}}': "9x99",
    f'aurum_drift_psi{{measure="score",{_DRIFT}}}': "0.2x20 0.3x79",
    # two gateways, which export the same
    'aurum_job_images_waiting{instance="a",job="g"}': "0x10 5x80",
    'aurum_job_images_waiting{instance="b",job="g"}': "0x10 5x80",
    'aurum_job_workers{instance="a",job="g",operation="score"}': "1x20 0x70",
    'aurum_job_workers{instance="b",job="g",operation="score"}': "1x20 0x70",
    'aurum_job_workers{instance="a",job="g",operation="enrol"}': "1x90",
    'aurum_job_oldest_wait_seconds{instance="a",job="g"}': "0x10 0+60x80",
    'aurum_job_images_total{instance="a",job="g",outcome="ok"}': "0+9x40 360x50",
    'aurum_job_images_total{instance="a",job="g",outcome="failed"}': "0x90",
    'aurum_job_images_total{instance="a",job="g",outcome="dead"}': "0x30 1x60",
    'aurum_job_webhooks_total{instance="a",job="g",outcome="given_up"}': "0x30 1x60",
    # 14 days are left after half an hour
    'aurum_certificate_expiry_timestamp_seconds{setting="AURUM_TLS_CERTIFICATE_FILE"}': (
        "1211400x90"
    ),
    'up{instance="a",job="g",stack="aurum"}': "1x10 0x80",
    # of somebody else who shares the Prometheus
    'up{instance="z",job="another"}': "0x90",
    'aurum_circuit_open{instance="a",job="g",namespace="n",upstream="qdrant"}': "0x10 1x80",
    'aurum_circuit_open{instance="b",job="g",namespace="n",upstream="qdrant"}': "0x10 1x80",
    # another release, and another upstream
    'aurum_circuit_open{instance="a",job="g",namespace="other",upstream="redis"}': "0x90",
    # two releases: one looks well, the other one is
    'aurum_portrait_last_success_timestamp_seconds{namespace="other",job="g"}': "0+60x90",
    'aurum_http_requests_total{instance="a",job="g"}': "0+100x90",
    'aurum_errors_total{instance="a",job="g",code="timeout"}': "0x50 0+3x40",
    # callers' own errors do not count
    'aurum_errors_total{instance="a",job="g",code="no_face"}': "0+50x90",
    'aurum_inference_seconds_bucket{instance="a",job="g",le="1"}': "0+10x50 500x40",
    'aurum_inference_seconds_bucket{instance="a",job="g",le="4"}': "0+10x90",
    'aurum_inference_seconds_bucket{instance="a",job="g",le="+Inf"}': "0+10x90",
}
"""One value per minute."""
CASES = (
    ("AurumPartDown", 4, 6, {"part": "vectors"}, ""),
    ("AurumPortraitFails", 19, 40, {"outcome": "no_face"}, ""),
    ("AurumPortraitMissing", 29, 35, {}, ""),
    ("AurumPortraitDrifted", 14, 20, {}, "0.02"),
    ("AurumPortraitDrifted", 35, None, {}, ""),
    (
        "AurumFacesDrifted",
        45,
        55,
        {"instance": "a", "job": "g", "id": "1", "stage": "s", "measure": "score"},
        "0.3",
    ),
    ("AurumJobsWithoutWorker", 22, 24, {"job": "g"}, "5"),
    # waits from minute 11 on for more than 15 minutes, while images still end until minute 40
    ("AurumJobsWaitTooLong", 44, 60, {"job": "g"}, "2940"),
    ("AurumJobImagesDead", 30, 35, {"job": "g"}, ""),
    ("AurumJobImagesDead", 60, None, {}, ""),
    (
        "AurumJobWebhooksFail",
        30,
        40,
        {"instance": "a", "job": "g", "outcome": "given_up"},
        "",
    ),
    ("AurumCertificateEndsSoon", 30, 40, {"setting": "AURUM_TLS_CERTIFICATE_FILE"}, ""),
    ("AurumTargetDown", 12, 14, {"instance": "a", "job": "g", "stack": "aurum"}, ""),
    ("AurumCircuitOpen", 11, 14, {"job": "g", "namespace": "n", "upstream": "qdrant"}, "2"),
    ("AurumErrors", 50, 65, {"job": "g"}, ""),
    ("AurumSlow", 50, 70, {"job": "g"}, ""),
)
"""Alert, a minute without it, a minute with it (None: it ends), its labels, its value."""


def exported() -> set[str]:
    """Return the names in /metrics."""
    metrics = Metrics()
    return {
        name
        for family in metrics.registry.collect()
        for name in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }


def test_every_metric_of_a_rule_is_exported():
    for rule in ALERTS.values():
        named = set(re.findall(r"aurum_\w+", rule["expr"]))
        assert named or rule["expr"].startswith("up{"), rule["alert"]
        assert named <= exported(), rule["alert"]


def test_limits_of_the_golden_probe_equal_those_of_readiness():
    expression = ALERTS["AurumPortraitDrifted"]["expr"]
    limits = dict(re.findall(r"aurum_portrait_(\w+)\)? > ([\d.]+)", expression))
    assert {name: float(limit) for name, limit in limits.items()} == {
        "box_shift_pixels": golden_probe.BOX_PIXELS,
        "landmark_shift_pixels": golden_probe.LANDMARK_PIXELS,
        "confidence_difference": golden_probe.CONFIDENCE,
        **{
            f"{output.name}_{'difference' if output.is_number else 'distance'}": output.tolerance
            for output in golden_probe.PROBED
        },
    }


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        is_missing("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_rules():
    promtool("check", "rules", *RULES)


def shown(text: str, labels: dict[str, str], value: str) -> str:
    """Render an annotation as Prometheus does."""
    text = text.replace("{{ $value }}", value)
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels.get(found[1], ""), text)


def test_alerts_fire_at_the_right_minute(tmp_path):
    assert {case[0] for case in CASES} == set(ALERTS)
    expected: list[dict[str, Any]] = []
    for alert, silent, fires, labels, value in CASES:
        expected.append({"alertname": alert, "eval_time": f"{silent}m", "exp_alerts": []})
        if fires is None:
            continue
        rule = ALERTS[alert]
        firing = {
            "exp_labels": {**labels, **rule["labels"]},
            "exp_annotations": {
                name: shown(text, labels, value) for name, text in rule["annotations"].items()
            },
        }
        expected.append({"alertname": alert, "eval_time": f"{fires}m", "exp_alerts": [firing]})
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in SERIES.items()],
        "alert_rule_test": expected,
    }
    path = tmp_path / "cases.yml"
    whole = {
        "rule_files": [str(file) for file in RULES],
        "evaluation_interval": "1m",
        "tests": [test],
    }
    path.write_text(yaml.safe_dump(whole))
    promtool("test", "rules", path)
