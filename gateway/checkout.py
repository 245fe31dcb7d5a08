"""Where this checkout lies and how its variables begin; imports nothing, for light processes."""

from pathlib import Path
from typing import Final

PREFIX: Final = "AURUM_"
CHECKOUT: Final = Path(__file__).resolve().parent.parent
LOCAL_KEY = Path("keys") / "local.key"
"""Below `AURUM_HOME`: the key with which tools of the same machine ask a running gateway."""
