"""Encrypted connections to a Qdrant server: what its client is given."""

from typing import Any

from gateway.checkout import PREFIX
from gateway.errors import ConfigurationError
from gateway.tls import ClientTls, TlsFiles


def encryption_arguments(url: str, files: TlsFiles) -> dict[str, Any]:
    """Return the client's arguments for an https URL; none for plain text.

    Raises ConfigurationError for files that cannot be used, or that need an https URL.
    """
    if not url.lower().startswith("https://"):
        for variable, _ in files.named():
            message = f"{variable} is set: {PREFIX}QDRANT_URL must begin with https://"
            raise ConfigurationError(message)
        return {}
    tls = ClientTls(files)
    pem = tls.pem()
    given = {
        "root_certificates": pem.ca,
        "private_key": pem.key,
        "certificate_chain": pem.certificate,
    }
    # the context is for HTTP, the rest for gRPC, which reads the files once
    return {
        "verify": tls.context(),
        "grpc_options": {name: value for name, value in given.items() if value is not None},
    }
