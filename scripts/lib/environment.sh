# shellcheck shell=bash
# The Python environment of scripts/test, scripts/check and scripts/demo. Sourced, never run:
#
#     . scripts/lib/environment.sh
#     edge_environment demo      # the SDK with the extra "demo" (several: "demo,openvino")
#     edge_environment test      # everything that the tests and checks need
#
# Afterwards python, pip and the edge-* commands on the PATH are those of the environment.
# It is made in $EDGE_VENV (default: .venv of the checkout) with $EDGE_PYTHON (default: the first
# Python >= 3.10 found). Nothing is installed outside it, except python3-venv by apt-get, and
# only for root on Debian and its kin.

# Physical, so that a linked scripts/ folder still names the checkout it belongs to.
EDGE_ROOT=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

edge_say() {
    printf '%s\n' "$*" >&2
}

edge_try_thrice() {
    local attempt
    for attempt in 1 2 3; do
        "$@" && return 0
        if [ "$attempt" -lt 3 ]; then
            edge_say "attempt $attempt of 3 failed: $*"
            sleep $((attempt * 5))
        fi
    done
    return 1
}

# edge_apt_install "PACKAGE...": succeeds only for root where apt-get is at home.
edge_apt_install() {
    [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null || return 1
    edge_say "installing $1 with apt-get"
    edge_try_thrice edge_apt_get_once "$1"
}

# shellcheck disable=SC2086 # several packages are several words
edge_apt_get_once() {
    apt-get update -qq </dev/null >&2 &&
        DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq --yes --no-install-recommends $1 </dev/null >&2
}

# Prints the interpreter to use: one that can make environments, if there is one.
edge_find_python() {
    local candidate check fallback=
    for candidate in ${EDGE_PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do
        check='import sys; raise SystemExit(sys.version_info < (3, 10))'
        "$candidate" -c "$check" 2>/dev/null || continue
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
        fallback=${fallback:-$candidate}
    done
    if [ -z "$fallback" ]; then
        edge_say "no Python >= 3.10 found (looked for: ${EDGE_PYTHON:-python3, python3.13 to python3.10})."
        edge_say "Install one, or name it: EDGE_PYTHON=/path/to/python3"
        return 1
    fi
    # Debian ships Python without venv; the package carries the interpreter's version.
    local package
    package=$("$fallback" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    edge_apt_install "$package" || true
    if ! "$fallback" -c 'import ensurepip, venv' 2>/dev/null; then
        edge_say "$fallback cannot make virtual environments: its module venv is missing."
        edge_say "On Debian and Ubuntu: sudo apt-get install $package"
        return 1
    fi
    printf '%s\n' "$fallback"
}

# What was installed for: other pins, requirements or checkout mean another environment.
edge_environment_key() {
    cat "$EDGE_ROOT/pyproject.toml" "$EDGE_ROOT/constraints.txt" | cksum | tr ' ' '-'
    printf '%s\n' "$EDGE_ROOT"
}

edge_environment() {
    local extras=$1 python stamp key
    [ "$extras" = test ] && extras=demo,dev,export,gpio,openvino
    EDGE_VENV=${EDGE_VENV:-$EDGE_ROOT/.venv}
    mkdir -p "$EDGE_VENV" && EDGE_VENV=$(cd "$EDGE_VENV" && pwd) || return 1
    stamp=$EDGE_VENV/edge-environment
    key=$(edge_environment_key)
    if ! edge_has_extras "$stamp" "$key" "$extras"; then
        if ! "$EDGE_VENV/bin/python" -m pip --version >/dev/null 2>&1; then
            # --clear mends an environment whose interpreter is gone, and would empty any folder.
            if [ ! -e "$EDGE_VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$EDGE_VENV")" ]; then
                edge_say "EDGE_VENV=$EDGE_VENV: expected a new or empty folder or an environment"
                return 1
            fi
            python=$(edge_find_python) || return 1
            edge_say "making the Python environment $EDGE_VENV with $python"
            "$python" -m venv --clear "$EDGE_VENV" || return 1
        fi
        edge_say "installing the SDK with [$extras]; the first time this takes minutes"
        edge_try_thrice edge_pip_install --upgrade pip setuptools &&
            edge_try_thrice edge_pip_install --no-build-isolation --editable "$EDGE_ROOT[$extras]" ||
            {
                edge_say "could not install the Python packages; what pip said is above."
                return 1
            }
        edge_stamp "$stamp" "$key" "$extras"
    fi
    export EDGE_VENV VIRTUAL_ENV=$EDGE_VENV PATH=$EDGE_VENV/bin:$PATH
}

edge_pip_install() {
    "$EDGE_VENV/bin/python" -m pip install --quiet --progress-bar off --disable-pip-version-check \
        --constraint "$EDGE_ROOT/constraints.txt" "$@" </dev/null >&2
}

# The stamp: the key, then one line for each extra installed under it.
edge_has_extras() {
    local stamp=$1 key=$2 extra
    [ -e "$stamp" ] && [ "$(head -n 2 "$stamp")" = "$key" ] || return 1
    "$EDGE_VENV/bin/python" -c '' 2>/dev/null || return 1
    for extra in ${3//,/ }; do
        tail -n +3 "$stamp" | grep -qx "$extra" || return 1
    done
}

edge_stamp() {
    local stamp=$1 key=$2 extras=$3 kept=
    [ -e "$stamp" ] && [ "$(head -n 2 "$stamp")" = "$key" ] && kept=$(tail -n +3 "$stamp")
    # Written beside and renamed: an interrupted run must not look installed.
    printf '%s\n' "$key" $kept ${extras//,/ } >"$stamp.new" && mv "$stamp.new" "$stamp"
}
