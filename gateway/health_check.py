"""Whether the gateway of this machine is ready: `python -m gateway.health_check`, for containers.

Imports little, because a container runs it every few seconds.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

_READY: Final = "/api/health/ready"
_TIMEOUT_SECONDS: Final = 4.0


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Return 0 if it is ready; otherwise write why not."""
    port = environment.get("AURUM_PORT", "8080")
    try:
        tls = _tls(environment)
        scheme = "http" if tls is None else "https"
        url = f"{scheme}://127.0.0.1:{port}{_READY}"
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS, context=tls):  # noqa: S310
            return 0
    except (urllib.error.URLError, OSError) as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1


def _tls(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """Accept the gateway's own certificate only, whatever its names; None without TLS."""
    certificate = environment.get("AURUM_TLS_CERTIFICATE_FILE")
    if not certificate:
        return None
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    mine = environment.get("AURUM_GATEWAY_CLIENT_CERTIFICATE_FILE")
    if mine:
        context.load_cert_chain(mine, environment.get("AURUM_GATEWAY_CLIENT_KEY_FILE"))
    return context


if __name__ == "__main__":
    sys.exit(main())
