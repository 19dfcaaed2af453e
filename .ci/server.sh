# For scripts that ask a running server, to be sourced by them after `set -euo pipefail` in the root of the tree: a scratch folder
# `work`, a server of the debug build on it at `origin`, and what ends both. The script's name stands before what it prints.
name=$(basename "$0")
target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")
work=$(mktemp --directory)
server=
end() {
    [[ -z $server ]] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap end EXIT

say() { echo "$name: $*"; }
fail() {
    say "$*" >&2
    tail --lines=20 "$work/log" >&2 || true
    exit 1
}

# python_tool FOLDER PACKAGE==VERSION: a virtual environment with this package from PyPI, made once.
python_tool() {
    [[ ! -e $1/.whole ]] || return 0
    say "installing $2"
    python3 -m venv --clear "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check "$2"
    touch "$1/.whole"
}

# serve VARIABLE=VALUE…: builds the server and starts it on an empty folder with these settings and no others.
serve() {
    say "building"
    # The binary that the tests run, which `cargo build` alone would build with other features and so from the beginning.
    cargo test --workspace --test it --no-run
    : >"$work/greeting"
    env --ignore-environment HOST=127.0.0.1 PORT=0 DATA_DIR="$work/data" RUST_LOG=warn LOG_FORMAT=text "$@" \
        "$target/debug/keepsake" >"$work/greeting" 2>"$work/log" &
    server=$!
    for _ in {1..100}; do
        grep -q "serves http" "$work/greeting" && break
        kill -0 "$server" 2>/dev/null || fail "the server ended"
        sleep 0.1
    done
    origin=$(grep -o "http://127.0.0.1:[0-9]*" "$work/greeting" | head -n 1)
    [[ -n $origin ]] || fail "the server does not say where it is"
}
