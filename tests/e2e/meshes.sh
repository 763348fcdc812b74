#!/bin/bash
# Twenty steps of `tiny` on meshes of data x tensor x pipeline x context ranks and with every pipeline
# schedule: the same losses to 1e-4 relative, the same gradient norms to 1e-3. A mesh only reorders
# f32 sums, and twenty updates let the
# difference grow a little; a missing reduction is seen at the first step.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
make_dataset || { not_ok meshes_agree "no dataset"; exit 1; }

train 1 "$work/1x1x1x1" train.steps=20 data.micro_batch=8 || tail -n 3 "$work/1x1x1x1.log"
for mesh in 2x1x1x1 1x2x1x1 1x1x2x1 1x2x2x1 2x2x1x1 1x4x1x1 1x1x4x1 2x2x2x1 1x1x1x2 1x1x1x4 1x2x1x2 \
    2x1x1x2 1x1x2x1_gpipe 2x1x2x1_interleaved_3 1x1x4x1_zero_bubble; do
    IFS=x_ read -r d t p c schedule chunks <<< "$mesh"
    [ "${chunks:-1}" != bubble ] || { schedule=zero_bubble chunks=1; }
    run=$work/$mesh
    train $((d * t * p * c)) "$run" train.steps=20 data.micro_batch=2 \
        "parallel.data=$d" "parallel.tensor=$t" "parallel.pipeline=$p" "parallel.context=$c" \
        "parallel.schedule=${schedule:-1f1b}" "parallel.chunks_per_rank=${chunks:-1}" \
        || tail -n 3 "$run.log"
    loss=$(worst "$work/1x1x1x1" "$run" loss)
    norm=$(worst "$work/1x1x1x1" "$run" grad_norm)
    echo "note: mesh $mesh: largest relative difference from one rank: loss $loss, grad_norm $norm"
    if below "$loss" 1e-4 && below "$norm" 1e-3; then ok "mesh_${mesh}_agrees"
    else not_ok "mesh_${mesh}_agrees" "loss $loss (limit 1e-4), grad_norm $norm (limit 1e-3)"; fi
done
