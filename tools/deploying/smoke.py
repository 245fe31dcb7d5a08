"""The proof of a deployment: a photo goes through the gateway, and the release's models answer."""

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import httpx
from aurum_client import AurumClient, AurumError, FacesResult, RetryPolicy, TimeLimits

from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.types import TRITON_ENGINE
from tools.clients.service_client import gateway_context
from tools.deploying.errors import DeployError
from tools.deploying.models import ServedVersion
from tools.errors import BatchError
from triton_python_backend.contract import ONNX_STAGES, SCORING
from triton_python_backend.self_test import PORTRAIT

_PAUSE_SECONDS: Final = 1.0
_LIMITS: Final = TimeLimits(connect=5.0, read=30.0, total=30.0)
_ONCE: Final = RetryPolicy(attempts=1)
"""The attempts are counted here: each needs a photo of its own."""
_NOT_ALLOWED: Final = (401, 403)
_REFUSED_CERTIFICATE: Final = "certificate verify failed"
"""In the words of OpenSSL; asking again would change nothing."""
_COMMENT_BYTES: Final = 16


def prove(
    url: str,
    models: Mapping[str, ServedVersion],
    *,
    scores: bool,
    settings: Settings,
    headers: Mapping[str, str],
    limit_seconds: float,
    report: Callable[[str], None],
) -> None:
    """Send a photo until the models of a release answer it rightly.

    A new version needs a moment until Triton has loaded it, so a wrong answer is asked for again.

    Args:
        url: of the gateway.
        models: versions by stage, as they have to answer.
        scores: whether faces must have a score.
        settings: which certificates are accepted.
        headers: with the key of the gateway.
        limit_seconds: for all attempts.
        report: called with what answered.

    Raises:
        DeployError: with what was wrong at last.

    """
    deadline = time.monotonic() + limit_seconds
    try:
        transport = httpx.HTTPTransport(verify=gateway_context(url, settings))
        with AurumClient(
            url, headers=headers, limits=_LIMITS, retry=_ONCE, transport=transport
        ) as client:
            while reason := _try(client, models, scores=scores, report=report):
                if time.monotonic() > deadline:
                    raise DeployError(f"the photo was not answered rightly by {url}: {reason}")
                time.sleep(_PAUSE_SECONDS)
    except (BatchError, ConfigurationError) as error:
        raise DeployError(str(error)) from error


def _try(
    client: AurumClient,
    models: Mapping[str, ServedVersion],
    *,
    scores: bool,
    report: Callable[[str], None],
) -> str:
    """Ask once; returns what is wrong, or nothing."""
    try:
        photo = _new_photo()
        answer = client.score(photo) if scores else client.embed(photo)
    except AurumError as error:
        if getattr(error, "status", None) in _NOT_ALLOWED:
            raise DeployError(
                f"the gateway did not accept the key: {error}; name one with --api-key-file"
            ) from error
        if _REFUSED_CERTIFICATE in str(error).lower():
            raise DeployError(
                f"{error}; give the certificate's name with --url, and one of your own in "
                "AURUM_GATEWAY_CA_FILE"
            ) from error
        return str(error)
    wrong = _what_is_wrong(answer, models, scores=scores)
    if not wrong:
        face = answer.faces[0]
        score = "no score wanted" if face.score is None else f"score {face.score:.2f}"
        report(
            f"faces: {len(answer.faces)}, confidence {face.confidence:.2f}, {score}, by "
            f"{answer.engine} in {answer.took_ms.total:.0f} ms"
        )
    return wrong


def _what_is_wrong(
    answer: FacesResult, models: Mapping[str, ServedVersion], *, scores: bool
) -> str:
    if answer.cached:
        return "the answer came from the cache"
    if answer.engine != TRITON_ENGINE:
        return f"{answer.engine} answered instead of Triton"
    if not answer.faces:
        return "no face was found"
    if scores and not all(_is_number(face.score) for face in answer.faces):
        return "a face has no score: the scoring head does not fit the embedding"
    if not scores and any(face.embedding is None for face in answer.faces):
        return "a face has no embedding"
    for stage in ONNX_STAGES:
        served = models.get(stage.name)
        if served is None or (stage is SCORING and not scores):
            continue
        version = getattr(answer.models, stage.short_name, None)
        if version != str(served.version):
            return f"{stage.name} {version} answered, not {served.version}"
    return ""


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _new_photo() -> bytes:
    """Return the portrait with a comment that it never had, so that no cache knows it."""
    photo = PORTRAIT.read_bytes()
    comment = os.urandom(_COMMENT_BYTES)
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    return photo[:2] + segment + photo[2:]
