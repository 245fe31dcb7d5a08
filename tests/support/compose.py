"""The Compose files as the real `docker-compose` resolves them."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gateway.settings import CHECKOUT

DEVELOPMENT = CHECKOUT / "docker-compose.yml"
PRODUCTION = CHECKOUT / "docker-compose.prod.yml"
PROFILES = ("cpu", "gpu")
PROGRAM = Path(sys.executable).parent / "docker-compose"


@cache
def resolved(file: Path, *profiles: str) -> dict[str, Any]:
    """Read a file as if nothing were set and no `.env` were there; fails on every warning."""
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    chosen = [f"--profile={profile}" for profile in profiles]
    result = subprocess.run(
        [PROGRAM, "--file", file, "--env-file", os.devnull, *chosen, "config"],
        env=variables,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    stack: dict[str, Any] = yaml.safe_load(result.stdout)
    return stack


def sources() -> list[Path]:
    """List the files that people wrote."""
    return [DEVELOPMENT, PRODUCTION, *sorted((CHECKOUT / "deploy" / "compose").glob("*.yml"))]


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Return the folders and files of the checkout that a service sees, by their path inside."""
    return {
        each["target"]: each["source"]
        for each in service.get("volumes", ())
        if each["type"] == "bind"
    }
