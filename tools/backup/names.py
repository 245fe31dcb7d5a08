"""Names of the members of an archive, and of the archives."""

from datetime import UTC, datetime
from typing import Final

RECORDS: Final = "records/"
VECTORS: Final = "vectors/"
KEYS: Final = "keys/"
FILES: Final = "files/"
LEFT_OUT: Final = "left-out"
OBJECTS: Final = "job-images/"
WEIGHTS: Final = "models/"


def archive_name(at: float) -> str:
    """Name an archive by its time, seconds since 1970, so that names sort as times do."""
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    part_of_a_second = int(at % 1 * 0x10000)
    return f"aurum-{moment}-{part_of_a_second:04x}.backup"
