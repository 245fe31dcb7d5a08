"""Whether the gateway of this machine is ready: `python -m gateway.health_check`, for containers.

Imports little, because a container runs it every few seconds.
"""

import os
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
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{_READY}", timeout=_TIMEOUT_SECONDS):
            return 0
    except (urllib.error.URLError, OSError) as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
