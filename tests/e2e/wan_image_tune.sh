#!/bin/bash
# Fine-tuning of image-to-video folders that diffusers saved, on datasets that hold what such models
# read beside the noise: the same losses on every axis of the mesh, whole and low-rank, sampled and
# evaluated afterwards; each expert of two; and what is refused.
# shellcheck disable=SC2016,SC2034,SC2154,SC2317 # conditions are expressions that `check` evaluates
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/e2e/wan_support.sh
. tests/e2e/wan_support.sh
make_clips
# ingest NAME OPTION...
ingest() {
    local name=$1
    shift
    said=$("$ZOETROPE" ingest "$work/clips" --out "$work/$name" --size 48x32 --frames 9 --fps 8 "$@" 2>&1 < /dev/null)
    code=$?
}
base=$folders/i2v
text=(--vae "$base" --text-encoder "$base")
ingest first "${text[@]}" --condition first --image-encoder "$base"
ingest again "${text[@]}" --condition first --image-encoder "$base" --workers 1
check a_dataset_holds_conditions '[ "$("$ZOETROPE" verify "$work/first" 2>&1 | grep -c ^ok)" = 1 ]' \
    '"$ZOETROPE" inspect "$work/first" | grep -q "^condition  *first$"' \
    '"$ZOETROPE" inspect "$work/first" | grep -q "^image rows  *50$"' \
    'cmp -s "$work/first/shard-00000.h5" "$work/again/shard-00000.h5"'
ingest both "${text[@]}" --condition first-last
ingest plain "${text[@]}"
ingest latents "${text[@]}" --condition first
cat > "$work/tune.yaml" << YAML
codec: { kind: wan, vae: $base }
data: { batch: 2 }
train: { steps: 3, lr: 1e-3, schedule: constant, heldout_every: 3 }
checkpoint: { every: 3 }
parallel: { threads: 1 }
YAML

# tune RANKS RUN MODEL DATA KEY=VALUE...: the exit code in `code`, standard error in `said`
tune() {
    local launch=(mpirun -n "$1") run=$2 model=$3 data=$4
    [ "$1" = 1 ] && launch=()
    shift 4
    "${launch[@]}" "$ZOETROPE" train "$work/tune.yaml" run.dir="$work/$run" model.from="$folders/$model" \
        data.train="$work/$data" data.heldout="$work/$data" "$@" > "$work/said" 2>&1 < /dev/null
    code=$?
    said=$(cat "$work/said")
}
# losses RUN: of its steps and of the held-out clips, to six digits
losses() {
    sed -nE 's/.*"step":([0-9]+).*"loss":([-0-9.e+]*),.*/\1 \2/p' "$work/$1/metrics.jsonl" | awk '{ printf "%d %.6g\n", $1, $2 }'
    sed -nE 's/.*"heldout_loss":([-0-9.e+]*).*/\1/p' "$work/$1/metrics.jsonl" | awk '{ printf "%.6g\n", $1 }'
}
low=(lora.rank=2 lora.alpha=4)

# alike AXES RUN MODEL DATA KEY=VALUE...: trains alone, then over each axis
alike() {
    local axes=$1 run=$2
    shift
    tune 1 "$@"
    cp "$work/said" "$work/said-$run"
    check "${run}_trains" '[ $code = 0 ]' '[ "$(losses '"$run"' | wc -l)" = 4 ]'
    for axis in $axes; do
        tune 2 "$run-$axis" "${@:2}" parallel."$axis"=2
        check "${run}_trains_alike_over_$axis" '[ $code = 0 ]' '[ "$(losses '"$run-$axis"')" = "$(losses '"$run"')" ]'
    done
}
alike "tensor pipeline context data" i2v i2v first
said=$("$ZOETROPE" plan "$work/tune.yaml" run.dir="$work/i2v" model.from="$base" data.train="$work/first" data.heldout="$work/first" 2>&1)
check a_plan_says_what_it_takes \
    '[ "$(grep "^memory [a-z].*MiB  " <<< "$said")" = "$(grep "^memory [a-z].*MiB  " "$work/said-i2v")" ]' \
    'grep -q "^memory loader .*MiB" <<< "$said"'
alike "tensor context" i2v_low i2v first "${low[@]}"
alike "tensor pipeline context data" flf2v flf2v both
alike pipeline a14b i2v_a14b both model.expert=high
tune 1 a14b_low i2v_a14b latents model.expert=low "${low[@]}"
check the_other_expert_trains_low_rank_on_first_frames '[ $code = 0 ]' '[ "$(losses a14b_low | wc -l)" = 4 ]'
# the condition counts: without knowledge of the last frame the same clips give another loss
tune 1 flf2v_first flf2v latents
check which_frames_are_known_matters '[ $code = 0 ]' '[ "$(losses flf2v_first)" != "$(losses flf2v)" ]'
exact=(numerics=exact parallel.chunks=4 data.batch=4)
tune 1 exact i2v first "${exact[@]}"
tune 2 exact-context i2v first "${exact[@]}" parallel.context=2
check exact_numerics_give_the_same_bits '[ $code = 0 ]' \
    'cmp -s "$work"/exact{,-context}/checkpoints/step-00000003/transformer/diffusion_pytorch_model.safetensors'

for run in i2v i2v_low; do
    said=$("$ZOETROPE" infer --model "$work/$run" --prompt "a fox" --image "$base/image.png" --size 48x32 --frames 5 \
        --steps 2 --out "$work/$run.mp4" 2>&1 < /dev/null)
    check ${run}_is_sampled '[ -s "$work/'$run'.mp4" ]'
done
said=$("$ZOETROPE" evaluate --model "$work/i2v" --data "$work/first" --bins 2 2>&1 < /dev/null)
check a_tuned_model_is_evaluated 'grep -q "^mean" <<< "$said"'

# ---- what is refused -----------------------------------------------------------------------------

refused() { # NAME TEXT
    check "$1" '[ $code = 2 ]' '[ "$(grep -c "^zoetrope: " <<< "$said")" = 1 ]' 'grep -qF -- "'"$2"'" <<< "$said"'
}
tune 1 refused i2v plain
refused clips_without_conditions 'ingest with --condition first --image-encoder'
tune 1 refused i2v latents
refused clips_without_image_tokens 'ingest with --image-encoder'
tune 1 refused i2v both
refused clips_with_another_condition 'condition is first-last'
with_another "$base" image_encoder "$work/other_eyes"
ingest eyes "${text[@]}" --condition first --image-encoder "$work/other_eyes"
tune 1 refused i2v first data.heldout="$work/eyes"
refused heldout_of_another_image_encoder 'different image encoders'
said=$("$ZOETROPE" evaluate --model "$work/i2v" --data "$work/plain" --bins 2 2>&1 < /dev/null)
code=$?
refused an_evaluation_without_conditions 'ingest with --condition first --image-encoder'
ingest x --condition first
refused a_condition_without_a_vae 'give --vae DIR'
ingest x "${text[@]}" --image-encoder "$base"
refused an_image_encoder_without_a_condition 'goes with --condition'
ingest x "${text[@]}" --condition last
refused a_condition_nobody_knows 'first-last'
