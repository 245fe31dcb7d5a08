#!/bin/bash
# Mutation testing: tests/mutants.sh [COUNT]
#
# Makes all mutants of gateway/ and triton_python_backend/ (tens of thousands) in mutants/, draws
# COUNT of them (default 300, the same ones each time), runs the tests of each and prints the
# score. Survivors: `python -m mutmut results`, and `python -m mutmut show NAME`.
# Needs `pip install mutmut==3.8.1` in .venv. Takes ten minutes on two idle cores.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
count=${1:-300}
mutmut=(.venv/bin/python -m mutmut)
export OMP_NUM_THREADS=1

# one small module: all mutants are made, and it is found out which tests reach which function
"${mutmut[@]}" run 'triton_python_backend.quality*' >/dev/null
readarray -t names < <(
    "${mutmut[@]}" results --all true | awk '/not checked/ { sub(":$", "", $1); print $1 }' |
        sort | shuf --random-source=<(yes) --head-count="$count"
)
"${mutmut[@]}" run "${names[@]}" >/dev/null
"${mutmut[@]}" results --all true | awk '
    { counts[$2 " " $3]++ }
    END { for (status in counts) print counts[status], status }'
