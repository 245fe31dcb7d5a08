"""An environment of its own for each peer, made once and kept."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.peers.peer import Peer
from benchmarks.peers.service import Networks, NotRunError

_REASON_CHARACTERS: Final = 300
_ERROR: Final = re.compile(r"ERROR\b|[\w.]*(Error|Exception)\b(?!:?$)")
"""pip's first error is the cause, a later one what it means; Python's begins with its kind."""


def install(peer: Peer, networks: Networks, console: Console) -> None:
    """Make the peer ready to be launched; raises NotRunError with the reason if that fails.

    An environment that was made with the same words for pip is taken as it is.
    """
    if not (peer.source / peer.marker).exists():
        raise NotRunError(f"no checkout of {peer.repository} in a folder {peer.checkout}/")
    peer.folder.mkdir(parents=True, exist_ok=True)
    wanted, made = json.dumps(peer.packages()), peer.folder / "installed.json"
    if not (made.is_file() and made.read_text() == wanted):
        started, log = time.monotonic(), peer.folder / "install.log"
        with console.status(f"{peer.name}: installing ({log})"), log.open("wb") as output:
            made.unlink(missing_ok=True)
            venv = [sys.executable, "-m", "venv", "--clear", str(peer.folder / "venv")]
            pip = [str(peer.python), "-m", "pip", "--disable-pip-version-check", "install"]
            for command in (venv, *([*pip, *words] for words in peer.packages())):
                if subprocess.run(command, stdout=output, stderr=output, check=False).returncode:
                    raise NotRunError(f"its packages do not install: {reason_in(log)}")
        made.write_text(wanted)
        console.print(f"{peer.name}: installed in {time.monotonic() - started:.0f} s")
    peer.place(networks)


def reason_in(log: Path) -> str:
    """What a log says went wrong, cut to the length of a table's cell: its first error.

    Without one, its last line.
    """
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    said = [line for line in lines if line and not line.startswith("[notice]")]
    errors = [line for line in said if _ERROR.match(line)]
    return (errors[:1] or said[-1:] or ["it said nothing"])[0][:_REASON_CHARACTERS]
