"""State of the version on trial in a running gateway, over its HTTP port."""

import json
import urllib.request
from typing import Final

from pydantic import ValidationError

from gateway.api.models.schemas import CandidateOut, TrialOut
from gateway.settings import Settings
from tools.local_key import local_key_headers

_TIMEOUT_SECONDS: Final = 3.0
_ANY: Final = ("0.0.0.0", "::", "")
_ROUTE: Final = "/api/ml/models/candidate"


def read_trial(settings: Settings) -> TrialOut | None:
    """Ask the gateway how the trial goes; None if it does not answer or knows of none."""
    answer = _ask(settings)
    return None if answer is None else answer.trial


def gateway_answers(settings: Settings) -> bool:
    """Whether a gateway runs on the port of the settings."""
    return _ask(settings) is not None


def _ask(settings: Settings) -> CandidateOut | None:
    host = "127.0.0.1" if settings.host in _ANY else settings.host
    url = f"http://{host}:{settings.port}{_ROUTE}"
    request = urllib.request.Request(url, headers=local_key_headers(settings.home))
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            return CandidateOut.model_validate(json.load(response))
    except (OSError, json.JSONDecodeError, ValidationError):
        return None
