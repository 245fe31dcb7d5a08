"""The supervisor's settings, without importing the library that parses and checks settings."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from gateway.settings import Settings

_PATHS: Final = (
    "home",
    "model_repository",
    "tls_certificate_file",
    "gateway_client_certificate_file",
    "gateway_client_key_file",
)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Copies of fields of `gateway.settings.Settings`; all folders are absolute."""

    home: Path
    model_repository: Path
    model_mirror: str | None
    host: str
    authentication: Literal["on", "off", "proxy"]
    port: int
    grpc_port: int | None
    tls_certificate_file: Path | None
    gateway_client_certificate_file: Path | None
    gateway_client_key_file: Path | None
    triton_host: str
    triton_http_port: int
    triton_grpc_port: int
    triton_metrics_port: int
    triton_grpc_url: str | None
    triton_start_timeout_seconds: float
    request_timeout_seconds: float
    drain_seconds: float
    stores_start_timeout_seconds: float
    max_image_megapixels: float
    onnx_backend: Literal["auto", "compiled", "python"]
    redis_memory_megabytes: int
    withdraw_after_seconds: float
    workers: int

    @classmethod
    def of(cls, settings: "Settings | RunSettings") -> "RunSettings":
        """Copy the fields from the settings."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    def to_json(self) -> str:
        """Serialise the settings for `from_json`."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> "RunSettings":
        """Parse the output of `to_json`."""
        given = json.loads(text)
        paths = {name: Path(given[name]) for name in _PATHS if given[name] is not None}
        return cls(**{**given, **paths})
