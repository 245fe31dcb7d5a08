"""`python -m gateway.worker`: settings from the environment, then work until a signal stops it."""

import os
import sys
from typing import Final

_NICENESS: Final = 5
"""Where processors are few, callers of the gateway come first."""


def main() -> int:
    """Run; returns the exit status."""
    # before anything is imported, which takes a second of a processor
    os.nice(_NICENESS)
    from gateway.worker.process import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
