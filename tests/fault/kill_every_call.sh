#!/bin/bash
# A save killed at every call that changes a file, on every rank: see fault_kill.c. LONG=1 also kills
# replacing saves at their writes on more ranks, and the training program under mpirun more often.
# limit_s: 3000
set -u
# shellcheck source=tests/fault/fault_support.sh
. tests/fault/fault_support.sh

names=fsync,rename,mkdir,unlink,rmdir
for ranks in 1 2 4; do fault fault_kill next $ranks; done
if [ -n "${LONG:-}" ]; then
    for ranks in 1 2 4; do
        fault fault_kill replace $ranks
        fault fault_kill replace_slowly $ranks
        fault fault_kill first $ranks
    done
else
    # up to their commit they are the first one
    for scene in replace replace_slowly first; do fault fault_kill $scene 1 $names; done
fi

# the training program itself: each rank killed in a save somewhere, then gone on with to the end,
# with the losses of a run that was never killed
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
trap 'rm -rf "$place" "$work"' EXIT
make_dataset || { not_ok training "no dataset"; exit 1; }
trained=("${small_train[@]}" train.steps=6 checkpoint.every=2 checkpoint.keep=1)

# count_calls RANK: that the rank makes below the run's folder
count_calls() {
    SHIM_ROOT=$work/whole SHIM_RANK=$1 SHIM_FAULT=kill SHIM_REPORT=$work/calls \
        mpirun -n 2 -x LD_PRELOAD="$shim" "$ZOETROPE" "${trained[@]}" run.dir="$work/whole" \
        > "$work/whole.log" 2>&1 || return 1
    sed -n "s/^$1 \([0-9]*\) calls -$/\1/p" "$work/calls"
}

# killed RANK CALL
killed() {
    local run=$work/run why=""
    rm -rf "$run"
    SHIM_ROOT=$run SHIM_RANK=$1 SHIM_FAULT=kill SHIM_AT=$2 SHIM_REPORT=$work/struck \
        timeout -k 5 60 mpirun -n 2 -x LD_PRELOAD="$shim" "$ZOETROPE" "${trained[@]}" run.dir="$run" \
        > "$work/killed.log" 2>&1
    [ $? != 0 ] || why="the job ended well"
    timeout -k 5 60 mpirun -n 2 "$ZOETROPE" "${trained[@]}" run.dir="$run" > "$work/again.log" 2>&1 ||
        why="the next run failed: $(tail -n 1 "$work/again.log")"
    diff <(column "$run" loss) <(column "$work/whole" loss) > /dev/null || why="other losses"
    [ -z "$(find "$run" -name '*.tmp' -o -name '*.partial' -o -name '*.old')" ] || why="leftovers"
    [ -z "$why" ] || not_ok training_goes_on_when_killed_at_any_call "rank $1, $(cat "$work/struck"): $why"
    [ -z "$why" ]
}

times=1 done=0
[ -n "${LONG:-}" ] && times=25
for rank in 0 1; do
    rm -rf "$work/whole"
    calls=$(count_calls $rank) || { not_ok training "$(tail -n 3 "$work/whole.log")"; exit 1; }
    for ((i = 1; i <= times; i++)); do
        killed $rank $((1 + (seed * 7919 + i * 104729) % calls)) || exit 1
        done=$((done + 1))
    done
done
ok training_goes_on_when_killed_at_any_call
echo "note: training on 2 ranks under mpirun: killed at $done calls"
