#!/bin/sh
# Looks up known vulnerabilities of the versions in requirements/*.txt.
#
# Exit status: 0 none is known, 1 some are, 2 the database could not be asked.
set -eu

cd "$(dirname "$0")/.."
output=$(mktemp)
trap 'rm -f "$output"' EXIT
found=0
for file in requirements/*.txt; do
    # all that is installed is in the file, with hashes: nothing has to be resolved
    if .venv/bin/python -m pip_audit --strict --disable-pip --require-hashes --requirement "$file" \
        >"$output" 2>&1; then
        printf '%s: no known vulnerability\n' "$file"
    elif grep -q '^Found [0-9]* known vulnerabilit' "$output"; then
        printf '%s:\n' "$file"
        cat "$output"
        found=1
    else
        printf 'error: the database of vulnerabilities cannot be reached; nothing was checked\n' >&2
        tail -n 1 "$output" >&2
        exit 2
    fi
done
exit "$found"
