"""The measured times that feed the simulation, as a file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

from benchmarks.support.served import CHECKOUT

RESULTS: Final = CHECKOUT / "benchmarks" / "results"
SAMPLES: Final = RESULTS / "scaling_samples.json"
SERVERS: Final = 2
"""Requests that a replica of two cores works on at once; the others wait in its queue."""
_QUANTILES: Final = 199
_P95_DEVIATIONS: Final = NormalDist().inv_cdf(0.95)


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
    def capacity(self) -> float:
        """Most answers a second of one replica."""
        return SERVERS * len(self.service) / sum(self.service)


def read(file: Path = SAMPLES) -> Samples:
    """Read samples; raises OSError, or TypeError where a field is missing or unknown."""
    found = json.loads(file.read_text())
    return Samples(**{**found, "service": tuple(found["service"])})


def write(samples: Samples, file: Path = SAMPLES) -> None:
    """Write samples so that a difference of two files is readable."""
    file.write_text(json.dumps(asdict(samples), indent=1) + "\n")


def published_service() -> tuple[float, ...]:
    """Return service times, in seconds, of the published runs on a quiet machine.

    They kept percentiles, not single times: the median of one caller (`compare.json`), and how
    far its 95th percentile lies above it (`beside_a_job.json`). The times are equally likely
    quantiles of the log-normal distribution with both.
    """
    compared = json.loads((RESULTS / "compare.json").read_text())
    alone = json.loads((RESULTS / "beside_a_job.json").read_text())["1 caller"]
    median = compared["results"]["one.jpg"]["latency_aurum"]["median"]
    return log_normal(median, alone["idle_p95"][0] / alone["idle_p50"][0])


def log_normal(median: float, p95_over_median: float) -> tuple[float, ...]:
    """Return equally likely quantiles of a log-normal distribution."""
    usual = NormalDist()
    quantiles = (usual.inv_cdf((each + 0.5) / _QUANTILES) for each in range(_QUANTILES))
    return tuple(median * p95_over_median ** (each / _P95_DEVIATIONS) for each in quantiles)
