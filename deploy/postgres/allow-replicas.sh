#!/bin/sh
# Lets a replica copy this PostgreSQL; the image runs it once, when it makes the database.
#
#   REPLICATION_PASSWORD_FILE   /run/secrets/replication_password by default
set -eu

password=$(cat "${REPLICATION_PASSWORD_FILE:-/run/secrets/replication_password}")
# the password goes through standard input, so that no process shows it
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<END
\set password '$password'
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'password';
END
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"
