"""Which files the settings name for each encrypted connection."""

from typing import Final

from gateway.checkout import PREFIX
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.tls import ServerTls, TlsFiles, read_pem


def files_of_gateway(settings: Settings) -> TlsFiles:
    """Return the certificate that the gateway shows, and the authorities of its clients."""
    return TlsFiles(
        f"{PREFIX}TLS_CERTIFICATE_FILE",
        f"{PREFIX}TLS_KEY_FILE",
        f"{PREFIX}TLS_CLIENT_CA_FILE",
        settings.tls_certificate_file,
        settings.tls_key_file,
        settings.tls_client_ca_file,
    )


def files_for_gateway(settings: Settings) -> TlsFiles:
    """Return what commands check a gateway with, and show to it."""
    return TlsFiles(
        f"{PREFIX}GATEWAY_CLIENT_CERTIFICATE_FILE",
        f"{PREFIX}GATEWAY_CLIENT_KEY_FILE",
        f"{PREFIX}GATEWAY_CA_FILE",
        settings.gateway_client_certificate_file,
        settings.gateway_client_key_file,
        settings.gateway_ca_file,
    )


def files_for_triton(settings: Settings) -> TlsFiles:
    """Return the files of connections to Triton."""
    return TlsFiles(
        *_variables("TRITON"),
        settings.triton_certificate_file,
        settings.triton_key_file,
        settings.triton_ca_file,
    )


def files_for_redis(settings: Settings) -> TlsFiles:
    """Return the files of connections to Redis."""
    return TlsFiles(
        *_variables("REDIS"),
        settings.redis_certificate_file,
        settings.redis_key_file,
        settings.redis_ca_file,
    )


def files_for_database(settings: Settings) -> TlsFiles:
    """Return the files of connections to PostgreSQL."""
    return TlsFiles(
        *_variables("DATABASE"),
        settings.database_certificate_file,
        settings.database_key_file,
        settings.database_ca_file,
    )


def files_for_qdrant(settings: Settings) -> TlsFiles:
    """Return the files of connections to Qdrant."""
    return TlsFiles(
        *_variables("QDRANT"),
        settings.qdrant_certificate_file,
        settings.qdrant_key_file,
        settings.qdrant_ca_file,
    )


def all_files(settings: Settings) -> tuple[TlsFiles, ...]:
    """List the files of all connections, set or not."""
    return tuple(each(settings) for each in _ALL)


def open_server_tls(settings: Settings) -> ServerTls | None:
    """Read the certificate of the gateway; None: it speaks plain text.

    Raises ConfigurationError for files that cannot be used.
    """
    files = files_of_gateway(settings)
    if not any(files.named()):
        return None
    if files.certificate is None and files.key is None:
        message = f"{files.ca_variable} is set: set {files.certificate_variable}, too"
        raise ConfigurationError(message)
    return ServerTls(files)


def check_gateway_files(settings: Settings) -> None:
    """Check what the gateway and its health checks show; raises ConfigurationError."""
    open_server_tls(settings)
    read_pem(files_for_gateway(settings))
    if settings.tls_client_ca_file is not None and settings.gateway_client_key_file is None:
        files = files_for_gateway(settings)
        raise ConfigurationError(
            f"{PREFIX}TLS_CLIENT_CA_FILE is set: the health checks of this machine need a client "
            f"certificate, too; set {files.certificate_variable} and {files.key_variable}"
        )


def _variables(part: str) -> tuple[str, str, str]:
    start = f"{PREFIX}{part}_"
    return f"{start}CERTIFICATE_FILE", f"{start}KEY_FILE", f"{start}CA_FILE"


_ALL: Final = (
    files_of_gateway,
    files_for_gateway,
    files_for_triton,
    files_for_redis,
    files_for_database,
    files_for_qdrant,
)
