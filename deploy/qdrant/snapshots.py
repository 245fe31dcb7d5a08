"""Makes snapshots of all collections on each node of Qdrant, and deletes old ones.

    python snapshots.py --hours 24 --keep 7 --key-file FILE http://qdrant-1:6333 …

Runs until it is stopped, with Python's own library only. A node that fails is named on standard
error and tried again the next time; the others get theirs. `--hours 0` does it once and ends with
status 1 if anything failed.
"""

import argparse
import json
import signal
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_SECONDS: Final = 600.0
_SECONDS_AN_HOUR: Final = 3600.0


def call(node: str, key: str, method: str, path: str) -> Any:
    """Call a node; raises OSError, or ValueError for an answer that makes no sense."""
    request = urllib.request.Request(node + path, method=method, headers={"api-key": key})
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        return json.load(answer)["result"]


def save(node: str, key: str, keep: int) -> int:
    """Make a snapshot of each collection, and delete all but the newest; returns how many."""
    names = [each["name"] for each in call(node, key, "GET", "/collections")["collections"]]
    for name in names:
        path = f"/collections/{urllib.parse.quote(name, safe='')}/snapshots"
        call(node, key, "POST", f"{path}?wait=true")
        old = sorted(
            call(node, key, "GET", path), key=lambda each: each["creation_time"] or "", reverse=True
        )
        for each in old[keep:]:
            call(node, key, "DELETE", f"{path}/{urllib.parse.quote(each['name'], safe='')}")
    return len(names)


def save_all(nodes: Sequence[str], key: str, keep: int) -> bool:
    """Do it on each node; returns whether all succeeded."""
    done = True
    for node in nodes:
        try:
            number = save(node, key, keep)
        except (OSError, ValueError, LookupError, TypeError) as error:
            print(f"{node}: no snapshots: {error}", file=sys.stderr, flush=True)
            done = False
        else:
            print(f"{node}: {number} snapshots", file=sys.stderr, flush=True)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM, or once."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("nodes", nargs="+")
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--keep", type=int, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while True:
        key = chosen.key_file.read_text().strip()
        done = save_all(chosen.nodes, key, chosen.keep)
        if not chosen.hours:
            return 0 if done else 1
        if stopped.wait(chosen.hours * _SECONDS_AN_HOUR):
            return 0


if __name__ == "__main__":
    sys.exit(main())
