"""The gateway's gRPC server: its port, its certificates, how it starts and ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from gateway.checkout import PREFIX
from gateway.concurrency import BackgroundTasks
from gateway.errors import ConfigurationError
from gateway.grpc.call import GrpcServices
from gateway.grpc.reception import Reception, most_message_bytes
from gateway.grpc.service import KServe
from gateway.settings import Settings
from gateway.tls import Pem, ServerTls

_GRACE_SECONDS: Final = 2.0
"""Time beyond its deadline that a call in flight has when the process stops."""
_CALLS_EACH: Final = 4
"""Calls at a time, as a multiple of `max_in_flight`; gRPC itself refuses more."""
_IDENTITY_ONLY: Final = 1
_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    # a packed message is refused: gRPC would unpack it before it looks at its size
    ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_ONLY),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),
    # a client that vanished is noticed
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # a port in use is an error
    ("grpc.so_reuseport", 0),
)


class GrpcServer:
    """A server that has not started, or runs."""

    def __init__(self, settings: Settings, services: GrpcServices, tls: ServerTls | None) -> None:
        """Reserve the port; raises ConfigurationError if it is not available."""
        self._reception = Reception(settings)
        self._grace_seconds = settings.request_timeout_seconds + _GRACE_SECONDS
        self._server = grpc.aio.server(
            handlers=[KServe(services, self._reception)],
            options=[
                *_OPTIONS,
                ("grpc.max_receive_message_length", most_message_bytes(settings)),
            ],
            maximum_concurrent_rpcs=_CALLS_EACH * settings.max_in_flight,
        )
        address = _address(settings)
        try:
            if tls is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, _credentials(tls))
        except RuntimeError as error:
            message = f"{PREFIX}GRPC_PORT: cannot listen on {address}; is the port in use?"
            raise ConfigurationError(message) from error

    async def start(self) -> None:
        """Listen."""
        await self._server.start()

    async def stop(self) -> None:
        """Accept no further calls, and wait until those in flight are answered."""
        self._reception.stop()
        await self._server.stop(self._grace_seconds)


@asynccontextmanager
async def serve_grpc(
    settings: Settings, services: GrpcServices, tls: ServerTls | None, background: BackgroundTasks
) -> AsyncIterator[GrpcServer]:
    """Serve until the end of the block, which is the end of the calls in flight, too.

    They end beside the requests over HTTP, as soon as the service does.
    """
    server = GrpcServer(settings, services, tls)
    await server.start()
    ending = services.lifecycle.ending

    async def stop() -> None:
        await ending.wait()
        await server.stop()

    stopping = background.detach("grpc-stop", stop())
    try:
        yield server
    finally:
        ending.set()
        await stopping


def _address(settings: Settings) -> str:
    host = settings.host or "0.0.0.0"  # noqa: S104 - as AURUM_HOST= says
    return f"[{host}]:{settings.grpc_port}" if ":" in host else f"{host}:{settings.grpc_port}"


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Make credentials that are asked for in each handshake, so that renewed files count."""
    seen = tls.pem()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        # called by a thread of gRPC
        nonlocal seen
        now = tls.pem()
        if now is seen:
            return None
        seen = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(seen), changed, require_client_authentication=seen.ca is not None
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pem.key, pem.certificate)], root_certificates=pem.ca
    )
