"""Which version is being tried, read without the libraries that `candidate_folders` needs."""

import ast
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.errors import LifecycleError
from triton_python_backend.contract import CANDIDATE_PARAMETER, PIPELINE, candidate_of

_PLAN: Final = re.compile(
    rf'key:\s*"{CANDIDATE_PARAMETER}"\s*value\s*{{\s*string_value:\s*("(?:[^"\\]|\\.)*")'
)


@dataclass(frozen=True, slots=True)
class RunningTrial:
    """Fields of `gateway.rollout.plan.Plan` of the same names."""

    trial: str
    stage: str
    version: int


def read_running_trial(repository: Path) -> RunningTrial | None:
    """Read the trial under way in a model repository; None if there is none.

    Raises:
        LifecycleError: if the configuration of the candidate holds no plan.

    """
    path = repository / candidate_of(PIPELINE.name) / "config.pbtxt"
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    found = _PLAN.search(text)
    try:
        # protobuf's text format escapes as Python does
        plan = json.loads(ast.literal_eval(found[1] if found else "''"))
        return RunningTrial(str(plan["trial"]), str(plan["stage"]), int(plan["version"]))
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise LifecycleError(f"{path} holds no plan of a trial: {error}") from error
