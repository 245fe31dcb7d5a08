#!/bin/sh
# Makes the secrets of the production stack that are missing in a folder: secrets.sh FOLDER
#
#   SERVER_NAME         name under which clients reach nginx, localhost by default
#   ALERT_WEBHOOK_URL   where Alertmanager sends alerts
#
# What is in existing files stays. Only the owner may enter the folder; the files in it can be read by all,
# because containers read them as users of their own.
set -eu

folder=${1:?usage: secrets.sh FOLDER}
name=${SERVER_NAME:-localhost}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# before anything is made: an empty password would stay, because existing files stay as they are
command -v openssl >/dev/null || fail "openssl is needed, and is not installed"
umask 022
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

keep() {
    # $1: file; its content comes from standard input
    [ -e "$1" ] && cat >/dev/null && return
    cat >"$1.new"
    [ -s "$1.new" ] || fail "nothing was made for $1"
    mv "$1.new" "$1"
    printf 'made %s\n' "$1" >&2
}

for each in redis_password postgres_password replication_password grafana_password \
    AURUM_QDRANT_API_KEY AURUM_WEBHOOK_SECRET; do
    openssl rand -hex 24 | tr -d '\n' | keep "$each"
done
for each in *; do
    [ -s "$each" ] || fail "$folder/$each is empty: remove it, and run this again"
done
printf 'postgresql://aurum:%s@postgres/aurum' "$(cat postgres_password)" | keep AURUM_DATABASE_URL
printf 'redis+sentinel://:%s@sentinel-1,sentinel-2,sentinel-3/aurum?sentinel_password=%s' \
    "$(cat redis_password)" "$(cat redis_password)" | keep AURUM_REDIS_URL
printf '%s' "${ALERT_WEBHOOK_URL:-http://127.0.0.1:9/alerts-go-nowhere}" | keep alert_webhook_url

if [ -e edge.pem ] || [ -e edge.key ]; then
    for each in edge.pem edge.key; do
        [ -e "$each" ] || fail "$folder needs both edge.pem and edge.key, and has no $each"
    done
else
    case $name in
    *:* | *[0-9].[0-9]*.*[0-9]) kind=IP ;;
    *) kind=DNS ;;
    esac
    said=$(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -sha256 \
        -subj "/CN=$name" -addext "subjectAltName=$kind:$name" -keyout edge.key.new -out edge.pem.new 2>&1) ||
        fail "openssl made no certificate for $name: $said"
    mv edge.key.new edge.key
    mv edge.pem.new edge.pem
    printf 'made edge.pem for %s, which no client trusts: replace it and edge.key\n' "$name" >&2
fi
# also what was put here by somebody else
chmod a+r -- *
