"""Generates `_sync` from `_async`: `python generate_sync.py`, or with --check compares only."""

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "src/aurum_client"
HEADER = "# Generated from _async/{name} by generate_sync.py; change it there.\n"
REPLACEMENTS = (
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b_async\b", "_sync"),
    (r"\basync_(\w+)", r"\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\ba(iter_bytes|read)\b", r"\1"),
    (r"\bAsync([A-Z]\w+)", r"\1"),
    (r", within asyncio\b", ""),
    (r"share it among tasks", "share it among threads"),
)


def generate(source: str, name: str) -> str:
    """Translate a module, and format it."""
    for pattern, replacement in REPLACEMENTS:
        source = re.sub(pattern, replacement, source)
    for arguments in (
        ["check", "--select=I,UP028", "--fix", "--unsafe-fixes", "--quiet"],
        ["format", "--quiet"],
    ):
        source = _ruff(source, name, *arguments)
    return HEADER.format(name=name) + source


def modules() -> "dict[str, str]":
    """Generate all modules, by file name."""
    return {
        path.name: generate(path.read_text(), path.name)
        for path in sorted((PACKAGE / "_async").glob("*.py"))
        if path.name != "__init__.py"
    }


def _ruff(source: str, name: str, *arguments: str) -> str:
    target = PACKAGE / "_sync" / name
    command = [sys.executable, "-m", "ruff", *arguments, f"--stdin-filename={target}", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    return done.stdout


def main() -> int:
    """Write the modules, or report those that are out of date."""
    if "--check" in sys.argv[1:]:
        old = [
            name
            for name, text in modules().items()
            if (PACKAGE / "_sync" / name).read_text() != text
        ]
        if old:
            sys.stderr.write(f"out of date: {', '.join(old)}; run generate_sync.py\n")
        return 1 if old else 0
    for name, text in modules().items():
        (PACKAGE / "_sync" / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
