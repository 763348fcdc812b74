#!/bin/bash
# limit_s: 300
# `dtype: bf16`: fifteen steps of a narrow `tiny` stay beside those in f32, on every axis of the mesh.
# BF16 keeps 8 bits of what is multiplied: here a loss moves by 1e-4 and the norm of the gradients by
# some 1e-3. A machine without it computes in f32 and says so.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
# shellcheck source=tests/e2e/meshes_support.sh
. tests/e2e/meshes_support.sh
make_dataset || { not_ok bf16 "no dataset"; exit 1; }

# beside RUN RANKS KEY=VALUE...
beside() {
    local run=$work/$1 ranks=$2 loss norm
    shift 2
    train "$ranks" "$run" train.steps=15 data.micro_batch=2 "${narrow[@]}" dtype=bf16 "$@" || tail -n 3 "$run.log"
    loss=$(worst "$work/f32" "$run" loss)
    norm=$(worst "$work/f32" "$run" grad_norm)
    echo "    ${run##*/}: largest relative difference from f32: loss $loss, grad_norm $norm"
    if below "$loss" 1e-3 && below "$norm" 1e-2; then ok "bf16_${run##*/}_stays_beside_f32"
    else not_ok "bf16_${run##*/}_stays_beside_f32" "loss $loss, grad_norm $norm"; fi
}

train 1 "$work/f32" train.steps=15 data.micro_batch=2 "${narrow[@]}" || tail -n 3 "$work/f32.log"
beside alone 1
beside tensor 2 parallel.tensor=2
beside pipeline 2 parallel.pipeline=2 parallel.schedule=zero_bubble
beside context 2 parallel.context=2
beside data 2 parallel.data=2
if grep -q 'no bf16 that is faster' "$work/alone.log"; then
    echo "    this machine computes bf16 in f32"
    if [ "$(worst "$work/f32" "$work/alone" loss)" = 0.00e+00 ]; then ok without_bf16_it_is_f32
    else not_ok without_bf16_it_is_f32 "the losses differ"; fi
elif below 1e-6 "$(worst "$work/f32" "$work/alone" loss)"; then ok bf16_is_computed
else not_ok bf16_is_computed "the losses are those of f32"; fi
train 1 "$work/exact" train.steps=2 train.warmup=0 "${narrow[@]}" dtype=bf16 numerics=exact
code=$?
if [ $code = 2 ] && grep -q 'does not go with numerics: exact' "$work/exact.log"; then ok exact_bf16_is_refused
else not_ok exact_bf16_is_refused "code $code: $(tail -n 1 "$work/exact.log")"; fi
