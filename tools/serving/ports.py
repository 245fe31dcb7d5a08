"""Addresses of the listeners, and whether their ports are free."""

import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import psutil

from gateway.checkout import PREFIX
from tools.serving.errors import ServingError

_LOOPBACK = "127.0.0.1"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class Addresses(Protocol):
    """The settings of all listeners."""

    @property
    def host(self) -> str:
        """Address that they bind."""

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
    """One port: what listens there, and the settings field that moves it."""

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
    """
    host = settings.host
    return (
        Listener("Triton's HTTP", "triton_http_port", _LOOPBACK, settings.triton_http_port),
        Listener("Triton's gRPC", "triton_grpc_port", host, settings.triton_grpc_port),
        Listener("Triton's metrics", "triton_metrics_port", host, settings.triton_metrics_port),
    )


def gateway_listener(settings: Addresses) -> Listener:
    """HTTP of the gateway."""
    return Listener("the gateway", "port", settings.host, settings.port)


def check_free(listeners: Iterable[Listener]) -> None:
    """Raise ServingError naming the first port that cannot be bound, and the setting."""
    taken: dict[int, Listener] = {}
    for listener in listeners:
        variable = PREFIX + listener.field.upper()
        if listener.port in taken:
            other = taken[listener.port].purpose
            message = (
                f"port {listener.port} is given to {other} and {listener.purpose} ({variable})"
            )
            raise ServingError(message)
        taken[listener.port] = listener
        reason = _why_not(listener)
        if reason:
            message = (
                f"port {listener.port} for {listener.purpose} on {listener.host} {reason}; "
                f"set {variable} to a free port"
            )
            raise ServingError(message)


def _why_not(listener: Listener) -> str:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.host, listener.port))
        except PermissionError:
            return "may not be bound by this user"
        except socket.gaierror:
            return f"cannot be bound: {PREFIX}HOST is no address of this machine"
        except OSError as error:
            return f"is in use{_holder(listener.port)}" if error.errno == 98 else f"fails: {error}"
    return ""


def _holder(port: int) -> str:
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.pid
            if listens and getattr(connection.laddr, "port", None) == port:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""
