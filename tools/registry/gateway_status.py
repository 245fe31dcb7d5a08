"""State of the version on trial in a running gateway, over its HTTP port."""

from typing import Final

from pydantic import ValidationError

from gateway.api.models.schemas import CandidateOut, TrialOut
from gateway.settings import Settings
from tools.clients.gateway_tls import own_gateway_context
from tools.clients.http import fetch
from tools.clients.listeners import gateway_listener
from tools.clients.local_key import local_key_headers

_TIMEOUT_SECONDS: Final = 3.0
_OK: Final = 200
_ROUTE: Final = "/api/ml/models/candidate"


def read_trial(settings: Settings) -> TrialOut | None:
    """Ask the gateway how the trial goes; None if it does not answer or knows of none."""
    answer = _ask(settings)
    return None if answer is None else answer.trial


def gateway_answers(settings: Settings) -> bool:
    """Whether a gateway runs on the port of the settings."""
    return _ask(settings) is not None


def _ask(settings: Settings) -> CandidateOut | None:
    address = gateway_listener(settings).address
    headers = local_key_headers(settings.home)
    try:
        context = own_gateway_context(settings)
        status, body = fetch(
            address, _ROUTE, headers=headers, timeout_seconds=_TIMEOUT_SECONDS, context=context
        )
        return CandidateOut.model_validate_json(body) if status == _OK else None
    except (OSError, ValidationError):
        return None
