#!/bin/bash
# A damaged checkpoint is passed over for the one before it: training names the one it leaves, the
# file and why, takes the newest that is whole and comes to the same end, bit for bit.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok damage "no dataset"; exit 1; }
keys=(train.steps=8 checkpoint.every=2 checkpoint.keep=0)

attempt 1 "${small_train[@]}" "${keys[@]}"
[ "$code" = 0 ] || { not_ok damage "the first run: code $code: $said"; exit 1; }
mv "$work/run" "$work/whole"

# flip FILE: changes one bit in its middle
flip() {
    local at byte
    at=$(($(stat -c %s "$1") / 2))
    byte=$(od -An -t u1 -j $at -N 1 "$1")
    printf %b "\\x$(printf %02x $((byte ^ 4)))" | dd of="$1" bs=1 seek=$at conv=notrunc status=none
}
# damaged NAME RANKS FILE KEPT: after damage to the copy the run goes on from step KEPT, having named
# the newest checkpoint and FILE, and ends as the one that was never damaged
damaged() {
    local name=$1 ranks=$2 file=$3 kept=$4 left
    attempt "$ranks" "${small_train[@]}" "${keys[@]}"
    left=$(grep -a "checkpoint step-00000008 passed over: .*$file" "$work/stderr")
    if [ "$code" != 0 ]; then not_ok "$name" "code $code: $said"
    elif [ -z "$left" ]; then not_ok "$name" "not named: $(grep -a 'passed over' "$work/stderr")"
    elif ! grep -qa "resumed from .*$kept" "$work/stderr"; then not_ok "$name" "$(grep -a resumed "$work/stderr")"
    elif [ "$ranks" = 1 ] && [ "$(column "$work/run" loss_hex)" != "$(column "$work/whole" loss_hex)" ]; then
        not_ok "$name" "another loss"
    else
        echo "    ${left:0:200}"
        ok "$name"
    fi
}
# fresh: a new copy of the run, whose newest checkpoint is $newest
fresh() {
    rm -rf "$work/run"
    cp -r "$work/whole" "$work/run"
    newest=$work/run/checkpoints/step-00000008
}
weights=transformer/diffusion_pytorch_model.safetensors

fresh
flip "$newest/$weights"
damaged flipped_bit_in_the_weights 1 "$weights" step-00000006
fresh
flip "$newest/optimizer/exp_avg_sq.safetensors"
damaged flipped_bit_in_a_moment_on_two_ranks 2 optimizer/exp_avg_sq.safetensors step-00000006
fresh
flip "$newest/manifest.json"
damaged flipped_bit_in_the_manifest 1 manifest.json step-00000006
fresh
truncate -s -1 "$newest/$weights"
damaged weights_cut_by_a_byte 1 "$weights" step-00000006
fresh
rm "$newest/state.json"
damaged missing_state_on_two_ranks 2 state.json step-00000006
fresh
mv "$newest/optimizer/exp_avg.safetensors" "$work/aside"
mv "$newest/optimizer/exp_avg_sq.safetensors" "$newest/optimizer/exp_avg.safetensors"
mv "$work/aside" "$newest/optimizer/exp_avg_sq.safetensors"
damaged moments_that_changed_places 1 optimizer/exp_avg.safetensors step-00000006
fresh
touch "$newest/transformer/more.safetensors"
damaged file_that_was_added 1 transformer/more.safetensors step-00000006
fresh
flip "$newest/$weights"
flip "$work/run/checkpoints/step-00000006/state.json"
damaged two_damaged_checkpoints 1 "$weights" step-00000004
fresh
for step in 2 4 6 8; do flip "$work/run/checkpoints/step-0000000$step/$weights"; done
sizes="1 2"
refused no_whole_checkpoint_is_left 3 'none of its 4 checkpoints is whole' "${small_train[@]}" "${keys[@]}"
