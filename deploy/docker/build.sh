#!/bin/sh
# Builds the images: build.sh [gateway] [cpu] [triton]; without names, gateway and cpu. `make images`
# calls it. cpu grows from gateway.
#
#   ENGINE        docker, podman or buildah; unset takes the first of them that is installed
#   BASE          base of gateway, for example debian:12.11-slim@sha256:…
#   TRITON_BASE   base of triton, for example nvcr.io/nvidia/tritonserver:24.10-py3@sha256:…
#   PREFIX        what the images' names begin with, aurum- by default
#   TAG           their tag, the project's version by default; they are named latest, too
#   OPTIONS       more options for the engine, separated by blanks
set -eu

cd "$(dirname "$0")/../.."

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

engine=${ENGINE:-}
if [ -z "$engine" ]; then
    for each in docker podman buildah; do
        if command -v "$each" >/dev/null; then
            engine=$each
            break
        fi
    done
    [ -n "$engine" ] || fail "docker, podman or buildah is needed to build images"
fi
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
prefix=${PREFIX:-aurum-}
tag=${TAG:-$version}

build() {
    name=$1
    shift
    printf 'Building %s%s:%s with %s\n' "$prefix" "$name" "$tag" "$engine" >&2
    # podman and buildah keep health checks only in this format
    case $engine in
    podman | buildah) set -- --format docker "$@" ;;
    esac
    # shellcheck disable=SC2086  # a list of options
    "$engine" build ${OPTIONS:-} "$@" \
        --build-arg VERSION="$version" --build-arg REVISION="$revision" \
        --file "deploy/docker/$name.Dockerfile" \
        --tag "$prefix$name:$tag" --tag "$prefix$name:latest" .
}

[ $# -gt 0 ] || set -- gateway cpu
for each in "$@"; do
    case $each in
    gateway) build gateway ${BASE:+--build-arg BASE="$BASE"} ;;
    cpu) build cpu --build-arg GATEWAY="${prefix}gateway:$tag" ;;
    triton) build triton ${TRITON_BASE:+--build-arg BASE="$TRITON_BASE"} ;;
    *) fail "gateway, cpu or triton, not $each" ;;
    esac
done
