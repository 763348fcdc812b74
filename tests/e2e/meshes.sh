#!/bin/bash
# limit_s: 900
# Ten steps of a narrow `tiny` on every mesh, schedule and recomputation of meshes_support.sh, in fast
# numerics: the same losses to 1e-6 relative, the same gradient norms to 1e-5. A mesh only reorders
# f32 sums: a norm of a million gradients, each a sum of a few hundred rounded terms, moves by some
# 1e-7, and ten updates let the difference grow a little. A missing reduction is seen at once: those of
# tests/planted move the norm by 6e-3 and more.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
# shellcheck source=tests/e2e/meshes_support.sh
. tests/e2e/meshes_support.sh
make_dataset || { not_ok meshes_agree "no dataset"; exit 1; }

first=""
while read -r -u 3 mesh keys; do
    [ -n "$mesh" ] || continue
    describe_mesh "$mesh" "$keys"
    run=$work/$name
    micro=$((ranks > 1 ? 2 : 8))
    train "$ranks" "$run" train.steps=10 "data.micro_batch=$micro" "${narrow[@]}" "${args[@]}" ||
        tail -n 3 "$run.log"
    first=${first:-$run}
    loss=$(worst "$first" "$run" loss)
    norm=$(worst "$first" "$run" grad_norm)
    echo "note: $name: largest relative difference from one rank: loss $loss, grad_norm $norm"
    if below "$loss" 1e-6 && below "$norm" 1e-5; then ok "mesh_${name}_agrees"
    else not_ok "mesh_${name}_agrees" "loss $loss (limit 1e-6), grad_norm $norm (limit 1e-5)"; fi
done 3<<< "$rows"
