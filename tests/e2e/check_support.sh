# Sourced by scripts whose checks are conditions: a folder to work in, and what is printed for tests/run.sh.
# shellcheck shell=bash
: "${ZOETROPE:?run me through tests/run.sh}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; }

# check NAME CONDITION...: one condition a word, each a bash expression; the first false one is why, with
# the exit code in `code` and the standard error in `said`
check() {
    local name=$1 condition
    shift
    for condition in "$@"; do
        eval "$condition" || { not_ok "$name" "$condition (code ${code:-}: $(tail -n 1 <<< "${said:-}" | head -c 300))"; return; }
    done
    ok "$name"
}

# says TEXT: in the one line of error that there is
says() { [ "$(grep -c '^zoetrope: ' <<< "$said")" = 1 ] && grep -qF -- "$1" <<< "$said"; }
