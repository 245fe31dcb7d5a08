#!/bin/sh
# Starts a replica: copies the primary into an empty folder, then follows it.
#
#   PGDATA          the folder, as the image sets it
#   PRIMARY         host of the primary; PRIMARY_PORT is 5432 by default
#   PASSWORD_FILE   file with the password of its user `replicator`
#   CONFIG          postgresql.conf of both
#   OPTIONS         more options for postgres, separated by blanks
#
# The primary keeps what the replica has not got yet in the replication slot `replica`, which is made with each
# copy: a promoted replica has none, and one that was given up (max_slot_wal_keep_size) cannot be used again.
#
# To make it the primary: psql -c 'SELECT pg_promote()', see docs/compose.md.
set -eu

passwords=${PASSWORDS:-/tmp/replication.pgpass}
umask 077
printf '*:*:*:replicator:%s\n' "$(cat "$PASSWORD_FILE")" >"$passwords"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    # what an interrupted copy left
    find "$PGDATA" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
    # a new volume can be entered by all, which PostgreSQL refuses
    chmod 700 "$PGDATA"
    export PGPASSFILE="$passwords"
    # refused if there is none, or if another replica uses it, which the copy then says
    psql --no-psqlrc --no-password --quiet --command 'DROP_REPLICATION_SLOT replica' \
        "host=$PRIMARY port=${PRIMARY_PORT:-5432} user=replicator replication=true" 2>/dev/null || true
    pg_basebackup --no-password --host "$PRIMARY" --port "${PRIMARY_PORT:-5432}" \
        --username replicator --pgdata "$PGDATA" --wal-method stream --create-slot --slot replica \
        --write-recovery-conf --checkpoint fast
fi
# shellcheck disable=SC2086  # a list of options
exec postgres -D "$PGDATA" -c "config_file=$CONFIG" ${OPTIONS:-}
