"""TLS to the gateway of this machine, without libraries that the supervisor would keep."""

import ssl
from pathlib import Path
from typing import Final

from tools.clients.listeners import Addresses

_END: Final = "-----END CERTIFICATE-----"


def own_gateway_context(settings: Addresses) -> ssl.SSLContext | None:
    """Return what checks the gateway of these settings; None: it speaks plain HTTP.

    Only the very certificate in `AURUM_TLS_CERTIFICATE_FILE` is accepted. Its names do not matter:
    it is issued for the outside, and this machine asks the gateway at its loopback address.

    Raises OSError (also ssl.SSLError) for a file that cannot be used.
    """
    if settings.tls_certificate_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.load_verify_locations(cadata=_first_certificate(settings.tls_certificate_file))
    # it need not be signed by itself
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if settings.gateway_client_certificate_file is not None:
        context.load_cert_chain(
            settings.gateway_client_certificate_file,
            settings.gateway_client_key_file,
            # a key with a password fails instead of asking for it
            password="",
        )
    return context


def _first_certificate(file: Path) -> str:
    """Read the gateway's own certificate; the intermediate ones would vouch for others, too."""
    try:
        text = file.read_text("ascii")
    except UnicodeDecodeError as error:
        raise ssl.SSLError(f"{file} is no PEM file") from error
    first, found, _ = text.partition(_END)
    if not found:
        raise ssl.SSLError(f"{file} contains no PEM certificate")
    return f"{first}{found}\n"
