"""Check that the listeners' ports are free."""

import socket
from collections.abc import Iterable
from contextlib import suppress

import psutil

from gateway.checkout import PREFIX
from tools.clients.listeners import Listener
from tools.serving.errors import ServingError


def check_free(listeners: Iterable[Listener]) -> None:
    """Raise ServingError with the first port that cannot be bound, and its setting."""
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
            return "needs more rights than this user has"
        except socket.gaierror:
            return f"cannot be bound: {PREFIX}HOST is not an address of this machine"
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
