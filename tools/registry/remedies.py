"""Asks for changes of versions from a process that does not import what they need."""

import subprocess
import sys
from collections.abc import Callable
from typing import Final

from gateway.checkout import CHECKOUT
from tools.errors import LifecycleError
from tools.registry.version_store import VersionStore

_LONGEST_SECONDS: Final = 300.0


def put_right(version_store: VersionStore, *words: object, report: Callable[[str], None]) -> None:
    """Run `tools.registry.put_right` and report what it did.

    Args:
        version_store: whose versions are changed.
        words: the action and what it is about.
        report: takes each line that was said.

    Raises:
        LifecycleError: with the reason of a refusal.

    """
    command = (
        *(sys.executable, "-m", "tools.registry.put_right"),
        *(version_store.repository, version_store.home, *words),
    )
    try:
        finished = subprocess.run(
            [str(word) for word in command],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LifecycleError(f"versions cannot be changed: {error}") from error
    for line in finished.stdout.splitlines():
        report(line)
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"]
        raise LifecycleError(lines[-1])
