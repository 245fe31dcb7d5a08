#!/bin/sh
# Writes constraints.txt: what pip chooses today for pyproject.toml in an empty environment.
set -eu

cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m venv "$folder"
torch=$(sed -n 's/^ *"\(torch==[0-9.]*\)",$/\1+cpu/p' pyproject.toml)
"$folder/bin/python" -m pip --quiet --quiet install --editable '.[dev]' "$torch"
{
    echo "# Exact versions of everything in .venv, tested together; \`make constraints\` writes this file anew."
    "$folder/bin/python" -m pip freeze --exclude-editable --exclude torch
} >constraints.txt
