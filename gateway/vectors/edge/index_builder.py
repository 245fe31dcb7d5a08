"""Index points into a finished shard, in a process of its own.

Qdrant Edge holds Python's interpreter lock while it builds a graph, so indexing inside the
engine process would stop every search for minutes. The engine spools points to files, starts
`python -m gateway.vectors.edge.index_builder SPOOL TARGET`, keeps answering, and then replaces the
old shards by the result.
"""

import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.checkout import without_secrets
from gateway.vectors.base import FacePoint, VectorTuning
from gateway.vectors.edge.files import sync_folder
from gateway.vectors.edge.shard import EdgeShard, warm

PLAN_FILE = "plan.pickle"
_CHUNK_GLOB = "*.points"
_NICENESS = 10
_PR_SET_PDEATHSIG = 1
_CHECKOUT = Path(__file__).resolve().parents[3]
"""Computed here: importing the settings would take longer than all else in this process."""


def write_plan(spool: Path, *, dimension: int, tuning: VectorTuning) -> None:
    """Begin a spool folder."""
    spool.mkdir(parents=True)
    (spool / PLAN_FILE).write_bytes(pickle.dumps((dimension, tuning)))


def write_chunk(spool: Path, number: int, points: Sequence[FacePoint]) -> None:
    """Add points to the spool; `number` keeps the chunks in order."""
    (spool / f"{number:08d}.points").write_bytes(pickle.dumps(list(points), protocol=5))


def start_build(spool: Path, target: Path) -> subprocess.Popen[bytes]:
    """Start the process that turns the spool into the shard `target`."""
    return subprocess.Popen(
        [sys.executable, "-m", "gateway.vectors.edge.index_builder", str(spool), str(target)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=_CHECKOUT,
        env=without_secrets(os.environ),
    )


def build(spool: Path, target: Path) -> None:
    """Write every spooled point into a new shard and index it."""
    # the files were written a moment ago by the process that started this one
    dimension, tuning = pickle.loads((spool / PLAN_FILE).read_bytes())  # noqa: S301
    shard = EdgeShard.create(target, dimension=dimension, tuning=tuning, indexed=True)
    for chunk in sorted(spool.glob(_CHUNK_GLOB)):
        points: list[FacePoint] = pickle.loads(chunk.read_bytes())  # noqa: S301
        shard.upsert(points)
        chunk.unlink()
    shard.optimize()
    shard.flush()
    shard.close()
    sync_folder(target)
    # read the files once: searches need them in the page cache
    warm(target)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it ends (Linux)."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with_parent()
    os.nice(_NICENESS)
    build(Path(sys.argv[1]), Path(sys.argv[2]))
