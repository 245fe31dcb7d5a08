"""The clock by which records expire; tests set it instead of waiting."""

import time


def now() -> float:
    """Return seconds since 1970."""
    return time.time()
