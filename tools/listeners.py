"""Addresses on which Triton and the gateway listen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_LOOPBACK = "127.0.0.1"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class Addresses(Protocol):
    """The settings of all listeners."""

    @property
    def home(self) -> Path:
        """Folder of all state."""

    @property
    def host(self) -> str:
        """Address that they bind."""

    @property
    def authentication(self) -> str:
        """`on`: only the gateway, which asks for keys, listens on `host`."""

    @property
    def port(self) -> int:
        """Port of the gateway."""

    @property
    def triton_http_port(self) -> int:
        """Port of Triton's HTTP."""

    @property
    def triton_grpc_port(self) -> int:
        """Port of Triton's gRPC."""

    @property
    def triton_metrics_port(self) -> int:
        """Port of Triton's metrics."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One port: what listens there, and the settings field that changes it."""

    purpose: str
    field: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port` for a client on this machine."""
        host = _WILDCARDS.get(self.host, self.host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def triton_listeners(settings: Addresses) -> tuple[Listener, Listener, Listener]:
    """HTTP, gRPC and metrics of Triton, in this order.

    HTTP stays on this machine, whatever the host: 80 kB of nested JSON or a million tiny chunks
    (CVE-2025-23310) kill Triton 24.10 there. Others use `/v2` of the gateway, which is bounded.
    While the gateway asks for keys, gRPC and metrics stay on this machine, too: Triton asks nobody.
    """
    host = _LOOPBACK if settings.authentication == "on" else settings.host
    return (
        Listener("Triton's HTTP", "triton_http_port", _LOOPBACK, settings.triton_http_port),
        Listener("Triton's gRPC", "triton_grpc_port", host, settings.triton_grpc_port),
        Listener("Triton's metrics", "triton_metrics_port", host, settings.triton_metrics_port),
    )


def gateway_listener(settings: Addresses) -> Listener:
    """HTTP of the gateway."""
    return Listener("the gateway", "port", settings.host, settings.port)
