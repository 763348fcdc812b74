#!/bin/bash
# parallel.zero says where moments and averages are kept, and nothing else: the same losses to the
# bit, the same tensors in checkpoints to the byte, and runs that go on from one to the other. Without
# clipping: only there may the norm, whose sum runs in another order, touch the update.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
make_dataset || { not_ok zero "no dataset"; exit 1; }
# half as wide as tiny: so many numbers that what shards are rounded up by is none of the memory
keys=(data.micro_batch=2 train.clip=0 model.attention_head_dim=16 model.ffn_dim=512 text.max_length=24)

same_hex() { # NAME RUN_A RUN_B
    if [ -n "$(column "$2" loss_hex)" ] &&
        [ "$(column "$2" loss_hex)" = "$(column "$3" loss_hex)" ]; then ok "$1"
    else not_ok "$1" "$(paste <(column "$2" loss_hex) <(column "$3" loss_hex) | awk '$1 != $2' | head -n 2)"; fi
}

# tensors RUN STEP: digests of all safetensors files of a checkpoint
tensors() {
    (cd "$1/checkpoints/step-$2" && find . -name '*.safetensors' | sort | xargs sha256sum)
}

same_tensors() { # NAME RUN_A RUN_B STEP
    if [ -n "$(tensors "$2" "$4")" ] && [ "$(tensors "$2" "$4")" = "$(tensors "$3" "$4")" ]; then ok "$1"
    else not_ok "$1" "$(diff <(tensors "$2" "$4") <(tensors "$3" "$4") | head -n 2)"; fi
}

for mesh in 2x1x1 2x1x2; do
    IFS=x read -r d t p <<< "$mesh"
    for zero in 0 1; do
        train $((d * t * p)) "$work/$mesh-$zero" train.steps=10 "${keys[@]}" "parallel.zero=$zero" \
            "parallel.data=$d" "parallel.tensor=$t" "parallel.pipeline=$p" || tail -n 3 "$work/$mesh-$zero.log"
    done
    same_hex "zero_gives_the_same_losses_on_$mesh" "$work/$mesh-0" "$work/$mesh-1"
    same_tensors "zero_saves_the_same_tensors_on_$mesh" "$work/$mesh-0" "$work/$mesh-1" 00000010
done
norm=$(worst "$work/2x1x1-0" "$work/2x1x1-1" grad_norm)
# 2 million terms in F64, in two orders: 2e6 * 2^-53 = 2e-10
if below "$norm" 2e-10; then ok zero_gives_the_same_norm
else not_ok zero_gives_the_same_norm "relative difference $norm"; fi

memory() { # RUN: MiB of the optimizer's moments and average, of the largest rank
    sed -nE 's/^memory (exp_avg|exp_avg_sq|ema) +([0-9.]+) MiB.*/\2/p' "$1.log" | awk '{ sum += $1 } END { print sum }'
}
echo "note: optimizer memory of the largest rank: zero 0 $(memory "$work/2x1x1-0") MiB, zero 1 $(memory "$work/2x1x1-1") MiB"
if awk -v a="$(memory "$work/2x1x1-0")" -v b="$(memory "$work/2x1x1-1")" \
    'BEGIN { exit !(a > 0 && b > 0.49 * a && b < 0.52 * a) }'; then ok zero_halves_the_optimizer_on_two
else not_ok zero_halves_the_optimizer_on_two "see note"; fi

# five steps with, five without, and the other way round; and from two replicas to four and to one
for zero in 0 1; do
    run=$work/turn-$zero
    train 2 "$run" train.steps=5 "${keys[@]}" parallel.data=2 "parallel.zero=$zero"
    [ $zero = 1 ] && cp -r "$run" "$work/on-4" && cp -r "$run" "$work/on-1"
    train 2 "$run" train.steps=10 "${keys[@]}" parallel.data=2 "parallel.zero=$((1 - zero))"
    same_hex "run_goes_on_bitwise_from_zero_$zero" "$work/2x1x1-0" "$run"
done
for d in 4 1; do
    train $d "$work/on-$d" train.steps=10 "${keys[@]}" parallel.data=$d
    difference=$(worst "$work/2x1x1-1" "$work/on-$d" loss)
    echo "note: resumed on $d replicas: largest relative difference of the loss $difference"
    if below "$difference" 1e-4; then ok "shards_of_two_are_resumed_on_$d"
    else not_ok "shards_of_two_are_resumed_on_$d" "loss $difference, limit 1e-4"; fi
done
