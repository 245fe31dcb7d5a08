"""The Locust users run against the whole stack and count no failure."""

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests

from gateway.settings import CHECKOUT

USERS = [
    *("ScoreUser", "DetectUser", "EmbedUser", "VerifyUser", "EnrolUser", "SearchUser"),
    *("LookingUser", "TritonUser"),
]


def locust(
    stack, *words: str, shape: str = "", until: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run Locust to its end: when all names of `until` were asked, or the time is over."""
    files = [CHECKOUT / "benchmarks" / "locustfile.py"]
    if shape:
        files.append(CHECKOUT / "benchmarks" / "shapes" / f"{shape}.py")
    if until:
        files.append(CHECKOUT / "tests" / "support" / "locust_until.py")
    command = [
        *(sys.executable, "-m", "locust", "-f", ",".join(map(str, files))),
        *("--headless", "--host", stack.url, "--triton", stack.grpc_address),
        *("-r", "20", "--stop-timeout", "20", "--only-summary", *words),
    ]
    return subprocess.run(
        command,
        cwd=CHECKOUT,
        env={**os.environ, "AURUM_TEST_UNTIL": "\n".join(until)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_every_user_works(stack, tmp_path: Path):
    report = tmp_path / "report.html"
    collection = "/api/collections/{name}"
    names = (
        *("/api/ml/score photo", "/api/ml/embed photo", "/api/ml/models", "face_pipeline"),
        *(f"{collection}/faces", f"{collection}/search"),
    )
    run = locust(
        stack,
        *("-u", str(len(USERS)), "-t", "120s", "--csv", str(tmp_path / "run")),
        *("--variants", "3", "--html", str(report), *USERS),
        until=names,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    with (tmp_path / "run_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    for name in names:
        assert int(rows[name]["Request Count"]) > 0, name
    assert int(rows["Aggregated"]["Failure Count"]) == 0
    assert "<html" in report.read_text()
    left = requests.get(f"{stack.url}/api/collections", timeout=60).json()
    assert "load-" not in str(left), "who makes collections removes them"


def test_a_missed_goal_is_the_exit_status(stack):
    run = locust(
        stack, "-u", "1", "-t", "2s", "--max-p95", "0.01", "--max-errors", "0", "EmbedUser"
    )
    assert run.returncode == 3, run.stdout + run.stderr
    assert "goal missed: p95 is" in run.stderr
    assert "failed, not" not in run.stderr


@pytest.mark.parametrize("shape", ["ramp", "spike", "soak"])
def test_the_shapes_of_load(stack, shape, tmp_path):
    run = locust(
        stack,
        *("-u", "4", "-t", "4s", "--csv", str(tmp_path / "run"), "--csv-full-history"),
        "LookingUser",
        shape=shape,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    with (tmp_path / "run_stats_history.csv").open() as file:
        users = [int(row["User Count"]) for row in csv.DictReader(file)]
    # the ramp's last step is too short here to be seen each time
    assert max(users) in {"ramp": (3, 4), "spike": (4,), "soak": (2,)}[shape]
    assert min(users[1:]) < max(users) or shape == "soak"
