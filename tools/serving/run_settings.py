"""The supervisor's settings, without importing the library that parses and checks settings."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Copies of fields of `gateway.settings.Settings`; all folders are absolute."""

    home: Path
    model_repository: Path
    model_mirror: str | None
    host: str
    authentication: Literal["on", "off", "proxy"]
    port: int
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
        folders = {name: Path(given[name]) for name in ("home", "model_repository")}
        return cls(**{**given, **folders})
