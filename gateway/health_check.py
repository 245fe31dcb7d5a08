"""Whether a gateway is ready: `python -m gateway.health_check [URL]`.

Without a URL it asks the gateway of this machine, for the health check of its container, and any
answer that is not an error will do. With the URL of a service it is stricter, for a test of an
installation: every component must be ready. Imports little, because a container runs it every few
seconds.
"""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final

_READY: Final = "/api/health/ready"
_TIMEOUT_SECONDS: Final = 4.0
_NAMED: Final = {"Host": "localhost"}
"""A name that `AURUM_ALLOWED_HOSTS` always allows, which the name of a service need not be."""


def main(environment: Mapping[str, str] = os.environ, arguments: Sequence[str] = ()) -> int:
    """Return 0 if it is ready; otherwise write why not."""
    try:
        tls = _tls(environment)
        scheme = "http" if tls is None else "https"
        own = f"{scheme}://127.0.0.1:{environment.get('AURUM_PORT', '8080')}"
        url = f"{arguments[0].rstrip('/') if arguments else own}{_READY}"
        asked = urllib.request.Request(url, headers=_NAMED)  # noqa: S310
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_SECONDS, context=tls) as answer:  # noqa: S310
            return _show(json.load(answer)) if arguments else 0
    except (urllib.error.URLError, OSError) as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1


def _show(ready: Mapping[str, Any]) -> int:
    """Write the state of every component; returns 0 if all are ready."""
    states = {name: part["status"] for name, part in ready["parts"].items()}
    for name, state in states.items():
        print(f"{name}: {state}")
    return 0 if {ready["status"], *states.values()} == {"ready"} else 1


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
    sys.exit(main(arguments=sys.argv[1:]))
