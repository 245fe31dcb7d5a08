"""Will the photo accept the certificate of nginx? Asked before anything is built or started."""

import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gateway.errors import ConfigurationError
from gateway.settings import PREFIX, Settings
from tools.clients.service_client import gateway_context
from tools.deploying.configuration import Configuration
from tools.errors import BatchError

_BALANCER = "nginx"


def certificate_problems(
    url: str | None,
    configuration: Configuration,
    settings: Settings,
    *,
    note: Callable[[str], None],
) -> Iterator[str]:
    """Find a certificate that nginx cannot use, or that the photo's client would refuse.

    url: as ordered. There another server may answer, so that a refusal is only a note.
    """
    pair = _files(configuration)
    asked = url or configuration.url() or ""
    if pair is None or not asked.startswith("https://"):
        return
    certificate, key = pair
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        yield f"{certificate} and {key} are no certificate with its key: {error}"
        return
    try:
        client = gateway_context(asked, settings)
    except (BatchError, ConfigurationError) as error:
        yield str(error)
        return
    host = urlsplit(asked).hostname or ""
    reason = _refusal(server, client, host) if isinstance(client, ssl.SSLContext) else ""
    if not reason:
        return
    text = f"{certificate} is not accepted for {host}: {reason}"
    advice = (
        f"name the host of the certificate with --url https://…, and a certificate of your own in "
        f"{PREFIX}GATEWAY_CA_FILE"
    )
    if url is None:
        yield f"{text}; {advice}"
    else:
        note(f"{text}; unless another server answers there, {advice}")


def _files(configuration: Configuration) -> tuple[Path, Path] | None:
    """Certificate and key among the secrets of nginx, if both are there."""
    files = configuration.secret_files()
    service = configuration.services.get(_BALANCER) or {}
    used = [
        files[each["source"]] for each in service.get("secrets") or () if each["source"] in files
    ]
    found = [[path for path in used if path.suffix == suffix] for suffix in (".pem", ".key")]
    if any(len(paths) != 1 or not os.path.isfile(paths[0]) for paths in found):
        return None
    return found[0][0], found[1][0]


def _refusal(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> str:
    """Say why a client refuses a server, which are made to shake hands in memory; or nothing."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=host)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(2):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError as error:
                return error.reason or str(error)
    return ""
