#!/bin/bash
# Checkpoints saved beside training and at once are the same, file by file, and so is the training, on
# one rank and on several, through a wide buffer and through one of a megabyte.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
# shellcheck source=tests/e2e/meshes_support.sh
. tests/e2e/meshes_support.sh
make_dataset || { not_ok save "no dataset"; exit 1; }

# go RANKS RUN KEY=VALUE...
go() {
    local ranks=$1 run=$2
    shift 2
    train "$ranks" "$run" train.steps=12 checkpoint.every=4 checkpoint.keep=0 data.batch=4 "${narrow[@]}" "$@"
}

# files RUN: digest and name of every file of every checkpoint, but what says how the run was configured
files() {
    (cd "$1/checkpoints" && find . -type f ! -name config.yaml ! -name manifest.json -exec sha256sum {} + | sort -k 2)
}

go 1 "$work/at_once" checkpoint.async=false || { not_ok save "$(tail -n 1 "$work/at_once.log")"; exit 1; }
want=$(files "$work/at_once") losses=$(column "$work/at_once" loss_hex)

# same NAME RANKS KEY=VALUE...
same() {
    local name=$1 ranks=$2 run=$work/$1
    shift 2
    if ! go "$ranks" "$run" "$@"; then not_ok "$name" "$(tail -n 1 "$run.log")"
    elif [ "$(files "$run")" != "$want" ]; then not_ok "$name" "checkpoints differ: $(diff <(echo "$want") <(files "$run") | sed -n 2p)"
    elif [ "$(column "$run" loss_hex)" != "$losses" ]; then not_ok "$name" "losses differ"
    elif ! "$ZOETROPE" verify "$run/checkpoints/step-00000008" > /dev/null 2>&1; then not_ok "$name" "step 8 is not whole"
    else ok "$name"; fi
}
same wide_buffer 1
same narrow_buffer 1 checkpoint.buffer_mib=1

go 2 "$work/two_at_once" checkpoint.async=false parallel.tensor=2 || { not_ok save "$(tail -n 1 "$work/two_at_once.log")"; exit 1; }
want=$(files "$work/two_at_once") losses=$(column "$work/two_at_once" loss_hex)
same wide_buffer_two_ranks 2 parallel.tensor=2
same narrow_buffer_two_ranks 2 parallel.tensor=2 checkpoint.buffer_mib=1

waited() { column "$work/$1" save_s | awk '{ s += $1 } END { printf "%.0f", 1000 * s }'; }
echo "note: training stood still for $(waited at_once) ms at once, $(waited wide_buffer) beside, $(waited narrow_buffer) through a megabyte"
