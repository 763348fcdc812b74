#!/bin/bash
# limit_s: 600
# Any mesh to any mesh: what one of six meshes saves, each of the others resumes, and in exact numerics
# the next ten losses and the state after them are those of a run that was never interrupted.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
# shellcheck source=tests/e2e/meshes_support.sh
. tests/e2e/meshes_support.sh
make_dataset || { not_ok reshard "no dataset"; exit 1; }
meshes="1x1x1x1 2x1x1x1 1x2x1x1 1x1x2x1 1x1x1x2 2x1x2x1"
saved_step=2 last_step=12

# go MESH RUN STEPS: from where RUN stands
go() {
    describe_mesh "$1" ""
    train "$ranks" "$2" numerics=exact train.steps="$3" train.warmup=1 data.batch=8 text.max_length=24 \
        model.num_layers=2 model.num_attention_heads=8 model.attention_head_dim=16 model.ffn_dim=128 \
        text.num_layers=1 "${args[@]}"
}

# state RUN STEP: digest of weights, averages and moments
state() {
    "$ZOETROPE" inspect "$1/checkpoints/$(printf 'step-%08d' "$2")" --digest 2> /dev/null |
        sed -n 's/^digest  *//p' | tail -n 1
}

go 1x1x1x1 "$work/whole" $last_step || { not_ok reshard "$(tail -n 1 "$work/whole.log")"; exit 1; }
losses=$(column "$work/whole" loss_hex) want=$(state "$work/whole" $last_step)
echo "note: last loss $(echo "$losses" | tail -n 1), state ${want:0:16}"

saved=""
for from in $meshes; do
    go "$from" "$work/$from" $saved_step || { not_ok "saved_on_$from" "$(tail -n 1 "$work/$from.log")"; continue; }
    digest=$(state "$work/$from" $saved_step)
    saved=${saved:-$digest}
    if [ -n "$digest" ] && [ "$digest" = "$saved" ]; then ok "saved_on_$from"
    else not_ok "saved_on_$from" "state ${digest:0:16} and not ${saved:0:16}"; fi
done
for from in $meshes; do
    for to in $meshes; do
        [ "$from" != "$to" ] || continue
        run=$work/moved
        cp -r "$work/$from" "$run"
        go "$to" "$run" $last_step
        digest=$(state "$run" $last_step)
        if ! grep -q "resumed from .*: step $saved_step" "$run.log"; then
            not_ok "${from}_to_$to" "$(tail -n 1 "$run.log")"
        elif [ "$(column "$run" loss_hex)" != "$losses" ]; then
            not_ok "${from}_to_$to" "losses differ: $(paste <(echo "$losses") <(column "$run" loss_hex) |
                awk '$1 != $2 { print "step " NR ": " $1 " and " $2; exit }')"
        elif [ "$digest" != "$want" ]; then
            not_ok "${from}_to_$to" "the same losses, but state ${digest:0:16} and not ${want:0:16}"
        else ok "${from}_to_$to"; fi
        rm -rf "$run"
    done
done
