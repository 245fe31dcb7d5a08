"""Changes that the supervisor asks for, in a process of their own that ends.

    python -m tools.registry.put_right REPOSITORY HOME withdraw STAGE VERSION REASON
    python -m tools.registry.put_right REPOSITORY HOME abort TRIAL REASON
    python -m tools.registry.put_right REPOSITORY HOME before-start REASON

What was done is printed line by line; a refusal is one line on standard error and exit status 1.
The supervisor stays small, as it does not import what these changes need: onnxruntime, protobuf
and pydantic.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from tools.errors import LifecycleError
from tools.registry.activation import withdraw
from tools.registry.candidates import abort
from tools.registry.startup_check import end_trial, withdraw_broken
from tools.registry.version_store import VersionStore


def main(arguments: Sequence[str]) -> int:
    """Make one change; returns the exit status."""
    repository, home, action, *rest = arguments
    version_store = VersionStore(Path(repository), Path(home))
    try:
        if action == "withdraw":
            stage, version, reason = rest
            change = withdraw(version_store, stage, int(version), reason=reason)
            _say(f"{stage} {version} is taken out, {change.after} serves: {reason}")
        elif action == "abort":
            trial, reason = rest
            plan = abort(version_store, reason=reason, trial=trial)
            _say(f"{plan.stage} {plan.version} is not tried any more: {reason}")
        else:
            (reason,) = rest
            end_trial(version_store, reason=reason, report=_say)
            withdraw_broken(version_store, report=_say)
    except (LifecycleError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
