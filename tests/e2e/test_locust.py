"""The Locust users run against the whole stack and count no failure."""

import csv
import subprocess
import sys
from pathlib import Path

from gateway.settings import CHECKOUT

USERS = ["ScoreUser", "DetectUser", "EmbedUser", "VerifyUser", "LookingUser", "TritonUser"]


def test_every_user_works(stack, tmp_path: Path):
    command = [
        *(sys.executable, "-m", "locust", "-f", str(CHECKOUT / "benchmarks" / "locustfile.py")),
        *("--headless", "--host", stack.url, "--triton", stack.grpc_address),
        *("-u", str(len(USERS)), "-r", "20", "-t", "8s", "--stop-timeout", "20"),
        *("--csv", str(tmp_path / "run"), "--only-summary", *USERS),
    ]
    run = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    with (tmp_path / "run_stats.csv").open() as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    for name in ("/api/ml/score photo", "/api/ml/embed photo", "/api/ml/models", "face_pipeline"):
        assert int(rows[name]["Request Count"]) > 0, name
    assert int(rows["Aggregated"]["Failure Count"]) == 0
