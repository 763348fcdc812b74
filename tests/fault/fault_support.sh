# Sourced by the scripts of tests/fault: programs under the shim, in a fresh folder each.
# shellcheck shell=bash
: "${ZOETROPE:?run me through tests/run.sh}"
programs=$(dirname "$ZOETROPE")/tests/fault
shim=$programs/shim.so
# shellcheck disable=SC2034 # what the scripts pass on
seed=${SEED:-1}
export OMP_NUM_THREADS=1
# flushing to a disk takes most of the time and proves nothing here
base=${TMPDIR:-/tmp}
[ -w /dev/shm ] && base=/dev/shm
place=$(mktemp -d "$base/zoetrope_fault.XXXXXX")
trap 'rm -rf "$place"' EXIT

# fault PROGRAM ARGUMENT...: runs it with the folder as its first argument; what it says on standard
# error is shown when it fails
fault() {
    local program=$1
    shift
    rm -rf "${place:?}"/*
    LD_PRELOAD=$shim "$programs/$program" "$place" "$@" 2> "$place.err"
    local code=$?
    [ $code = 0 ] || tail -n 5 "$place.err"
    rm -f "$place.err"
    # one that was ended by a signal has said nothing
    [ $code -lt 128 ] || echo "not ok ${program}_$*: ended with code $code"
}
