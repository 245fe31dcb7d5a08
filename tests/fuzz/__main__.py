"""Run one target: `nice python -m tests.fuzz archives --seconds 3600`.

libFuzzer reads and extends the corpus; a failing input is written to `--findings` and printed.
`--minimise` keeps of the corpus only what reaches code that the rest does not.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

from tests.fuzz.corpus_files import folder_of
from tests.fuzz.targets import TARGETS, load

_INSTRUMENTED = ["gateway", "triton_python_backend", "tarfile", "zipfile", "gzip", "jwt"]
_MOST_BYTES = 4096
_MOST_SECONDS_OF_ONE = 5


def main() -> None:
    """Parse the options and hand over to libFuzzer, which ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="instead of the one in the repository")
    parser.add_argument("--findings", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--minimise", type=Path, help="write a smaller corpus into this folder")
    # libFuzzer starts this again with options of its own
    options, more = parser.parse_known_args()
    arguments = [
        f"-timeout={_MOST_SECONDS_OF_ONE}",
        f"-max_len={_MOST_BYTES}",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={options.findings}/{options.target}-",
        "-print_final_stats=1",
    ]
    corpus = str(options.corpus or folder_of(options.target))
    command = sys.argv[0]
    if more:
        arguments = more
    elif options.minimise is not None:
        options.minimise.mkdir(parents=True, exist_ok=True)
        # libFuzzer starts the command as its first word, so what follows it needs a file
        again = options.minimise.with_suffix(".sh")
        again.write_text(f'exec {sys.executable} -m tests.fuzz {options.target} "$@"\n')
        command = f"/bin/sh {again}"
        arguments += ["-merge=1", str(options.minimise), corpus]
    else:
        arguments += [f"-max_total_time={options.seconds}", corpus]
    with atheris.instrument_imports(include=_INSTRUMENTED):
        target = load(options.target)
    atheris.Setup([command, *arguments], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
