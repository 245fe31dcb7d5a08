"""The measured times that feed the simulation, as a file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.served import CHECKOUT

SAMPLES: Final = CHECKOUT / "benchmarks" / "results" / "scaling_samples.json"
SERVERS: Final = 2
"""Requests that a replica of two cores works on at once; the others wait in its queue."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Service times in seconds, and how they were measured.

    service: of single one-face photos, one caller, nothing cached.
    start: from the start of a replica to its first answer.
    redis: processor time of a Redis server for one looked-up and stored answer.
    audit_transaction, audit_line: of PostgreSQL, for a transaction that appends to the audit log
    and for each line in it.
    flush: of one write to the disk that survives a power cut.
    provenance: date, machine, command, load average, networks.
    """

    service: tuple[float, ...]
    start: float
    redis: float
    audit_transaction: float
    audit_line: float
    flush: float
    provenance: dict[str, Any]

    @property
    def mean(self) -> float:
        """Mean service time."""
        return sum(self.service) / len(self.service)

    @property
    def capacity(self) -> float:
        """Most answers a second of one replica."""
        return SERVERS / self.mean


def read(file: Path = SAMPLES) -> Samples:
    """Read samples; raises OSError, or TypeError where a field is missing or unknown."""
    found = json.loads(file.read_text())
    return Samples(**{**found, "service": tuple(found["service"])})


def write(samples: Samples, file: Path = SAMPLES) -> None:
    """Write samples so that a difference of two files is readable."""
    file.write_text(json.dumps(asdict(samples), indent=1) + "\n")
