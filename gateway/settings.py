"""Rank 0: every setting of gateway and tools, once: one frozen class, prefix `AURUM_`.

A variable that no field knows stops the start with its name, so that a misspelt one is not
silently ignored. Only `AURUM_TEST_*` is left to the test suite.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.errors import ConfigurationError

PREFIX = "AURUM_"
CHECKOUT = Path(__file__).resolve().parent.parent
_FREE_PREFIX = "AURUM_TEST_"


class Settings(BaseSettings):
    """All settings. Each field is the variable `AURUM_<FIELD>`, its unit the end of its name."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    home: Path = Path(".aurum")
    """Folder of all state: environment of Triton, logs, records, caches."""
    host: str = "127.0.0.1"
    """Address that all listeners bind."""
    port: int = Field(default=8080, ge=1, le=65535)
    """Port of the gateway."""

    triton_http_port: int = Field(default=8000, ge=1, le=65535)
    """Port of Triton's KServe v2 HTTP."""
    triton_grpc_port: int = Field(default=8001, ge=1, le=65535)
    """Port of Triton's KServe v2 gRPC."""
    triton_metrics_port: int = Field(default=8002, ge=1, le=65535)
    """Port of Triton's Prometheus metrics."""
    triton_grpc_url: str | None = None
    """`host:port` of a Triton that runs elsewhere; unset: the one that this program starts."""
    triton_start_timeout_seconds: float = Field(default=120.0, gt=0)
    """How long Triton may take until all stages are ready."""

    model_repository: Path = CHECKOUT / "model_repository"
    """The folder that Triton serves."""
    model_mirror: str | None = None
    """Folder (or URL) that holds weights, tried before any other source."""
    model_cache: Path | None = None
    """Folder in which fetched packs are kept, for several homes; else one below `home`."""
    scoring: Literal["on", "off"] = "on"
    """`off`: no scores are computed or shown; everything else works."""

    max_image_bytes: int = Field(default=10 * 1024 * 1024, gt=0)
    """Largest encoded image in bytes."""
    max_image_megapixels: float = Field(default=40.0, gt=0)
    """Largest image in millions of pixels, read from its header."""
    request_timeout_seconds: float = Field(default=10.0, gt=0)
    """Deadline of one request, all waiting included."""
    max_in_flight: int = Field(default=256, gt=0)
    """Requests that may wait for Triton at a time; more are refused with 503."""
    match_threshold: float = Field(default=0.32, ge=-1, le=1)
    """Cosine similarity from which two faces are one person, until a calibration says better."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    @property
    def triton_address(self) -> str:
        """`host:port` of the gRPC endpoint that the gateway calls."""
        return self.triton_grpc_url or f"127.0.0.1:{self.triton_grpc_port}"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Build the settings from the environment.

    Raises ConfigurationError naming the variable for an unknown or malformed one.
    """
    environment = os.environ if environment is None else environment
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        upper = name.upper()
        if upper.startswith(PREFIX) and not upper.startswith(_FREE_PREFIX) and upper not in known:
            raise ConfigurationError(_unknown(name, known))
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        message = f"{variable}: {first['msg']} (got {first['input']!r})"
        raise ConfigurationError(message) from error


def _unknown(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown setting {name}{hint}"
