"""Where this checkout lies, how its variables begin, how processes are named; imports little."""

import hashlib
import socket
from pathlib import Path
from typing import Final

PREFIX: Final = "AURUM_"
CHECKOUT: Final = Path(__file__).resolve().parent.parent


def name_in_home(home: Path, role: str) -> str:
    """Name the only process of a role in a home on this host: the same after a restart."""
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{digest}-{role}"
