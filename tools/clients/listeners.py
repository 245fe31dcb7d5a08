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
    def port(self) -> int:
        """Port of the gateway."""

    @property
    def grpc_port(self) -> int | None:
        """Port of the gateway's gRPC; None: it has none."""

    @property
    def tls_certificate_file(self) -> Path | None:
        """Certificate of the gateway; None: it speaks plain HTTP."""

    @property
    def gateway_client_certificate_file(self) -> Path | None:
        """Certificate that clients on this machine show to the gateway."""

    @property
    def gateway_client_key_file(self) -> Path | None:
        """Private key of that certificate."""

    @property
    def triton_host(self) -> str:
        """Address of Triton's gRPC and metrics."""

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

    HTTP stays on this machine in any case: 80 kB of nested JSON or a million tiny chunks
    (CVE-2025-23310) kill Triton 24.10 there. Others use `/v2` of the gateway, which is bounded.
    gRPC and metrics stay there, too, unless a setting says otherwise: Triton asks nobody for a key.
    """
    host = settings.triton_host
    return (
        Listener("Triton's HTTP", "triton_http_port", _LOOPBACK, settings.triton_http_port),
        Listener("Triton's gRPC", "triton_grpc_port", host, settings.triton_grpc_port),
        Listener("Triton's metrics", "triton_metrics_port", host, settings.triton_metrics_port),
    )


def gateway_listener(settings: Addresses) -> Listener:
    """HTTP of the gateway."""
    return Listener("the gateway", "port", settings.host, settings.port)


def gateway_listeners(settings: Addresses) -> tuple[Listener, ...]:
    """HTTP and, if it is offered, gRPC of the gateway."""
    first = gateway_listener(settings)
    if settings.grpc_port is None:
        return (first,)
    return first, Listener("the gateway's gRPC", "grpc_port", settings.host, settings.grpc_port)


def gateway_url(settings: Addresses) -> str:
    """Return the URL of the gateway for a client on this machine."""
    scheme = "http" if settings.tls_certificate_file is None else "https"
    return f"{scheme}://{gateway_listener(settings).address}"
