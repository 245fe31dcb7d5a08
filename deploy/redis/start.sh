#!/bin/sh
# Starts a Redis or a Sentinel of the production stack: start.sh server|sentinel
#
#   NAME           the name under which others reach this one
#   PORT           6379, and 26379 of a Sentinel, by default
#   PRIMARY        name of the first primary; a server of another name starts as its replica
#   PRIMARY_PORT   6379 by default
#   PASSWORD_FILE  file with the password of all of them
#   FOLDER         /data by default: configuration and data, which must outlive the container,
#                  because a Sentinel writes there which server is the primary now
#   CONFIG         redis.conf beside this script by default
#
# A changed password or redis.conf is used from the next start on; all of them have to have the same password.
set -eu

role=$1
folder=${FOLDER:-/data}
primary_port=${PRIMARY_PORT:-6379}
password=$(cat "$PASSWORD_FILE")
case $password in
'' | *[!A-Za-z0-9_-]*)
    echo "error: $PASSWORD_FILE must hold letters, digits, - and _ only" >&2
    exit 1
    ;;
esac
# what it holds is readable by this user only
umask 077
file=$folder/$role.conf

if [ "$role" = server ]; then
    # what a Sentinel made of it, primary or replica, stays; all else follows the files it is started with, so
    # that a changed password or limit needs a restart only
    if [ -e "$file" ]; then
        follows=$(sed -n 's/^replicaof //p' "$file")
    elif [ "$NAME" = "$PRIMARY" ] && [ "${PORT:-6379}" = "$primary_port" ]; then
        follows=""
    else
        follows="$PRIMARY $primary_port"
    fi
    cat "${CONFIG:-$(dirname "$0")/redis.conf}" >"$file.new"
    cat >>"$file.new" <<END
port ${PORT:-6379}
dir $folder
replica-announce-ip $NAME
replica-announce-port ${PORT:-6379}
requirepass $password
masterauth $password
END
    [ -z "$follows" ] || echo "replicaof $follows" >>"$file.new"
    mv "$file.new" "$file"
    exec redis-server "$file"
fi

own() {
    cat <<END
port ${PORT:-26379}
dir $folder
requirepass $password
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $NAME
sentinel announce-port ${PORT:-26379}
sentinel sentinel-pass $password
END
}

if [ -e "$file" ]; then
    # what it knows of the others stays, and which server is the primary; passwords may have changed
    own >"$file.new"
    grep -v -e '^port ' -e '^dir ' -e '^requirepass ' -e '^user ' -e '^sentinel sentinel-pass ' \
        -e '^sentinel resolve-hostnames ' -e '^sentinel announce-' -e '^sentinel auth-pass ' "$file" >>"$file.new"
    echo "sentinel auth-pass aurum $password" >>"$file.new"
else
    own >"$file.new"
    cat >>"$file.new" <<END
sentinel monitor aurum $PRIMARY $primary_port 2
sentinel auth-pass aurum $password
sentinel down-after-milliseconds aurum ${DOWN_AFTER_MILLISECONDS:-5000}
sentinel failover-timeout aurum ${FAILOVER_MILLISECONDS:-30000}
sentinel parallel-syncs aurum 1
END
fi
mv "$file.new" "$file"
exec redis-server "$file" --sentinel
