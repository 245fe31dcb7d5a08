#!/bin/sh
# Starts a node of Qdrant with the API key of a file: start.sh OPTIONS…
set -eu

QDRANT__SERVICE__API_KEY=$(cat "${KEY_FILE:-/run/secrets/AURUM_QDRANT_API_KEY}")
export QDRANT__SERVICE__API_KEY
exec ./qdrant "$@"
