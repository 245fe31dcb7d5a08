"""The installed version of Aurum."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

_NO_VERSION: Final = "0.0.0"


def release() -> str:
    """Return the version of the installed distribution; 0.0.0 in a checkout without one."""
    try:
        return version("aurum")
    except PackageNotFoundError:
        return _NO_VERSION
