"""Load the settings of this process's environment: `python -m tools.deploying.settings_check`.

A process of its own reads exactly the variables that a container would get. An error is one line
on standard error and exit status 1.
"""

import sys

from gateway.errors import ConfigurationError
from gateway.settings import load_settings


def main() -> int:
    """Load them; returns the exit status."""
    try:
        load_settings()
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
