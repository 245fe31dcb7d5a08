"""Encrypted connections to a Qdrant server: what its client is given."""

import ssl
from collections.abc import Callable
from typing import Any

from gateway.checkout import PREFIX
from gateway.errors import ConfigurationError
from gateway.tls import NO_FILES, ClientTls, Pem, TlsFiles


def read_encryption(url: str, files: TlsFiles) -> tuple[TlsFiles, Callable[[Pem], dict[str, Any]]]:
    """Return the files that are watched, and what makes the client's arguments of their content.

    Plain text has neither. Raises ConfigurationError for files that cannot be used, or that need an
    https URL.
    """
    if not url.lower().startswith("https://"):
        for variable, _ in files.named():
            message = f"{variable} is set: {PREFIX}QDRANT_URL must begin with https://"
            raise ConfigurationError(message)
        return NO_FILES, lambda _: {}
    tls = ClientTls(files)
    return files, lambda pem: _arguments(tls.context(), pem)


def _arguments(context: ssl.SSLContext, pem: Pem) -> dict[str, Any]:
    given = {
        "root_certificates": pem.ca,
        "private_key": pem.key,
        "certificate_chain": pem.certificate,
    }
    # the context is for HTTP, the rest for gRPC
    return {
        "verify": context,
        "grpc_options": {name: value for name, value in given.items() if value is not None},
    }
