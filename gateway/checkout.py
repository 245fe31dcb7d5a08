"""Where this checkout lies, how its variables begin, how processes are named; imports little."""

import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PREFIX: Final = "AURUM_"
CHECKOUT: Final = Path(__file__).resolve().parent.parent
LOCAL_KEY: Final = Path("keys") / "local.key"
"""Below `AURUM_HOME`: the key with which tools of the same machine ask a running gateway."""
SECRETS: Final = frozenset(
    PREFIX + name
    for name in (
        "API_KEY",
        "BACKUP_PASSPHRASE",
        "DATABASE_URL",
        "OBJECT_STORE_SECRET",
        "QDRANT_API_KEY",
        "REDIS_URL",
        "STORAGE_KEYS",
        "WEBHOOK_SECRET",
    )
)
"""Variables that hold secrets; a test compares them with the settings."""


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Copy variables for a process that needs none of the secrets."""
    return {name: value for name, value in environment.items() if name.upper() not in SECRETS}


def name_in_home(home: Path, role: str) -> str:
    """Name the only process of a role in a home on this host: the same after a restart."""
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{digest}-{role}"
