#!/bin/sh
# Writes requirements/*.txt: the versions that pip chooses today for pyproject.toml, each with the
# hashes of all files of its release, so that other machines may take other files.
#
#   dev      the extra `dev`, and what PyTorch needs
#   run      the part of it for the extras `serve` and `client`
#   build    the part of it that builds this project itself
#   uv       the part of it that installs packages into images
#   triton   the part of it that the stages need on NVIDIA's image
#   golden   the versions stay as they are in the file, only hashes are written anew
set -eu

cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# compile OUT ARGUMENT…
compile() {
    out=$1
    shift
    # without the options, no address of a package source is written
    .venv/bin/pip-compile --quiet --allow-unsafe --strip-extras --no-header --no-annotate \
        --no-emit-options --output-file "$out" "$@"
}

# write NAME FILE COMMENT: the file below a comment, as requirements/NAME.txt
write() {
    { echo "# $3 \`make constraints\` writes this file anew." && cat "$2"; } >"requirements/$1.txt"
}

# subset NAMES: the entries of dev, with hashes, whose names are those of another compiled file
subset() {
    awk -F== '
        NR == FNR { if (NF == 2) wanted[$1] = 1; next }
        !/^ / { keep = $1 in wanted }
        keep
    ' "$1" "$folder/dev"
}

sed -n 's/^ *"\(torch==[0-9.]*\)",$/\1+cpu/p' pyproject.toml | sort -u >"$folder/torch.in"
compile "$folder/all" --generate-hashes --upgrade --extra dev pyproject.toml "$folder/torch.in"
# this project itself is not listed, and of PyTorch only what it needs: bootstrap.sh takes the build
# for processors from where it is
awk '!/^ / { keep = /^[a-z0-9._-]+==/ && !/^torch==/ } keep' "$folder/all" >"$folder/dev"
write dev "$folder/dev" "Exact versions of everything in .venv, tested together."

compile "$folder/run.names" --extra serve --extra client --constraint "$folder/dev" pyproject.toml
subset "$folder/run.names" >"$folder/run"
write run "$folder/run" "What \`make run\` and images of containers install: a part of dev.txt."

# part NAME PACKAGE…: the entries of dev for packages and what they need
part() {
    name=$1
    shift
    printf '%s\n' "$@" >"$folder/$name.in"
    compile "$folder/$name.names" --constraint "$folder/dev" "$folder/$name.in"
    subset "$folder/$name.names" >"$folder/$name"
}
part build setuptools
write build "$folder/build" "What builds this project itself: a part of dev.txt."
part uv uv
write uv "$folder/uv" "What installs packages into images: a part of dev.txt."
# numpy below 2, because Triton's stub cannot read the arrays of newer versions
part triton numpy opencv-python-headless pillow
write triton "$folder/triton" "What the stages need on NVIDIA's image: a part of dev.txt."

grep -oE '^[A-Za-z0-9_.-]+==[^ ]+' requirements/golden.txt >"$folder/golden.in"
compile "$folder/golden" --generate-hashes "$folder/golden.in"
write golden "$folder/golden" \
    "Exact versions of everything in .venv-golden: insightface, the reference of the golden tests."
