#!/bin/bash
# What mesh_exact compares sees mistakes: a program with one planted gives other losses on a mesh than
# the honest one on a rank. Each is a typical one of distributed training, and trains on all the same.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
# shellcheck source=tests/e2e/meshes_support.sh
. tests/e2e/meshes_support.sh
make_dataset || { not_ok mesh_exact_planted "no dataset"; exit 1; }
honest=$ZOETROPE

# run RANKS NAME KEYS...: three steps, the norm clipped in each
run() {
    local ranks=$1 name=$2
    shift 2
    train "$ranks" "$work/$name" numerics=exact train.steps=3 data.batch=4 data.micro_batch=1 \
        "${narrow[@]}" train.clip=0.1 train.warmup=0 "$@"
}

run 1 want || { not_ok mesh_exact_planted "$(tail -n 1 "$work/want.log")"; exit 1; }
run 2 honest parallel.tensor=2 || { not_ok honest "$(tail -n 1 "$work/honest.log")"; exit 1; }
if [ "$(column "$work/honest" loss_hex)" = "$(column "$work/want" loss_hex)" ]; then ok honest_agrees
else not_ok honest_agrees "losses differ"; fi

for file in tests/planted/*.sed; do
    name=$(basename "$file" .sed)
    ZOETROPE=$(dirname "$honest")/planted/$name
    if ! run 2 "$name" parallel.tensor=2; then
        not_ok "planted_$name" "did not run: $(tail -n 1 "$work/$name.log")"
    elif [ "$(column "$work/$name" loss_hex)" = "$(column "$work/want" loss_hex)" ]; then
        not_ok "planted_$name" "was not seen"
    else
        echo "note: $name: last loss $(column "$work/$name" loss | tail -n 1), honest $(column "$work/want" loss | tail -n 1)"
        ok "planted_${name}_is_seen"
    fi
done
