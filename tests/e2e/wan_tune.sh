#!/bin/bash
# Fine-tuning of folders that diffusers saved, whole and low-rank: the same losses on every axis of
# the mesh, resumed on another, sampled from a checkpoint that refers to its base, one expert of two
# in its part of the timesteps; and what is refused.
# shellcheck disable=SC2016,SC2034,SC2154,SC2317 # conditions are expressions that `check` evaluates
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/e2e/wan_support.sh
. tests/e2e/wan_support.sh
base=$folders/t2v
make_clips
"$ZOETROPE" ingest "$work/clips" --out "$work/data" --size 48x32 --frames 9 --fps 8 --vae "$base" \
    --text-encoder "$base" > /dev/null 2>&1
cat > "$work/tune.yaml" << YAML
model: { from: $base }
codec: { kind: wan, vae: $base }
data: { train: $work/data, heldout: $work/data, batch: 2 }
train: { steps: 4, lr: 1e-3, schedule: constant, heldout_every: 2, ema: 0.5 }
checkpoint: { every: 2 }
parallel: { threads: 1 }
YAML

# tune RANKS RUN KEY=VALUE...: the exit code in `code`, standard error in `said`
tune() {
    local launch=(mpirun -n "$1") run=$2
    [ "$1" = 1 ] && launch=()
    shift 2
    "${launch[@]}" "$ZOETROPE" train "$work/tune.yaml" run.dir="$work/$run" "$@" > "$work/said" 2>&1 < /dev/null
    code=$?
    said=$(cat "$work/said")
}
# losses RUN: of its steps, to six digits
losses() { sed -nE 's/.*"step":([0-9]+).*"loss":([-0-9.e+]*),.*/\1 \2/p' "$work/$1/metrics.jsonl" | awk '{ printf "%d %.6g\n", $1, $2 }'; }
refused() { # NAME TEXT KEY=VALUE...
    local name=$1 text=$2
    shift 2
    tune 1 refused "$@"
    check "$name" '[ $code = 2 ]' '[ "$(grep -c "^zoetrope: " <<< "$said")" = 1 ]' 'grep -qF -- "$text" <<< "$said"'
}

for kind in whole low; do
    keys=()
    [ $kind = low ] && keys=(lora.rank=3 lora.alpha=6)
    tune 1 $kind "${keys[@]}"
    check ${kind}_trains '[ $code = 0 ]' '[ "$(losses $kind | wc -l)" = 4 ]' \
        '[ "$("$ZOETROPE" verify "$work/$kind/checkpoints/step-00000004" 2>&1 | grep -c ^ok)" = 1 ]'
    for axis in tensor pipeline context data; do
        tune 2 $kind-$axis "${keys[@]}" parallel.$axis=2
        check ${kind}_trains_alike_over_$axis '[ $code = 0 ]' '[ "$(losses $kind-$axis)" = "$(losses $kind)" ]'
    done
    tune 1 $kind-resumed "${keys[@]}" train.steps=2
    tune 2 $kind-resumed "${keys[@]}" parallel.tensor=2
    check ${kind}_goes_on_over_another_mesh '[ $code = 0 ]' 'grep -q "resumed from" <<< "$said"' \
        '[ "$(losses $kind-resumed)" = "$(losses $kind)" ]'
    said=$("$ZOETROPE" infer --model "$work/$kind" --prompt "a fox" --size 48x32 --frames 5 --steps 2 \
        --out "$work/$kind.mp4" 2>&1 < /dev/null)
    check ${kind}_is_sampled_with_its_bases_parts '[ -s "$work/$kind.mp4" ]'
done
cmp -s "$work/whole.mp4" "$work/low.mp4" && not_ok two_ways_of_tuning_differ "the same video" || ok two_ways_of_tuning_differ
said=$("$ZOETROPE" evaluate --model "$work/whole" --data "$work/data" --bins 2 2>&1 < /dev/null)
check a_tuned_model_is_evaluated 'grep -q "^mean" <<< "$said"'

# a base that has moved is where the configuration says
cp -rL "$base" "$work/here"
tune 1 moved model.from="$work/here" lora.rank=3 train.steps=2
mv "$work/here" "$work/there"
said=$("$ZOETROPE" infer --model "$work/moved" --prompt "a fox" --out "$work/moved.mp4" 2>&1 < /dev/null)
check a_base_that_is_gone_is_named 'says "was made from $work/here"'
tune 1 moved model.from="$work/here" lora.rank=3
check a_base_that_is_nowhere_is_named '[ $code != 0 ]' 'says "$work/here: is not a folder"'
tune 1 moved model.from="$work/there" lora.rank=3
check changes_go_on_over_a_base_that_has_moved '[ $code = 0 ]' 'grep -q "resumed from" <<< "$said"' \
    '! grep -q "changed since" <<< "$said"'
# another model of the same sizes: the trained one in the first one's folder
"$ZOETROPE" convert "$work/whole/checkpoints/step-00000004" "$work/another" --quiet > /dev/null 2>&1 < /dev/null
tune 2 moved model.from="$work/another" lora.rank=3 parallel.data=2 train.steps=5
check changes_over_another_base_warn '[ $code = 0 ]' 'grep -q "warning: .*changed since" <<< "$said"'

# ---- two experts ---------------------------------------------------------------------------------

# of text to video: the second transformer is the first under another name
two=$work/two
cp -rL "$base" "$two" && chmod -R u+w "$two" && cp -r "$two/transformer" "$two/transformer_2"
sed -i -e 's/"transformer_2": \[/"transformer_2": [ "diffusers", "WanTransformer3DModel" ], "x": [/' \
    -e 's/"boundary_ratio": null/"boundary_ratio": 0.875/' "$two/model_index.json"
tune 1 expert model.from="$two" model.expert=low
checkpoint=$work/expert/checkpoints/step-00000004
check one_expert_is_trained '[ $code = 0 ]' '[ -d "$checkpoint/transformer_2" ]' '[ ! -e "$checkpoint/transformer" ]'
said=$("$ZOETROPE" infer --model "$work/expert" --prompt "a fox" --size 48x32 --frames 5 --steps 4 \
    --out "$work/expert.mp4" 2>&1 < /dev/null)
check both_experts_are_sampled '[ -s "$work/expert.mp4" ]' \
    'grep -q "guidance 4 and 3 of the low-noise expert" <<< "$said"'
tune 1 expert model.from="$two" model.expert=high train.steps=6
check another_expert_does_not_go_on '[ $code = 2 ]' 'grep -qF "holds the expert model.expert=low" <<< "$said"'
said=$("$ZOETROPE" convert "$checkpoint" "$work/pipeline" --quiet 2>&1 < /dev/null)
check a_checkpoint_becomes_a_whole_pipeline 'cmp -s "$two/transformer/diffusion_pytorch_model.safetensors" "$work/pipeline/transformer/diffusion_pytorch_model.safetensors"' \
    '! cmp -s "$two/transformer_2/diffusion_pytorch_model.safetensors" "$work/pipeline/transformer_2/diffusion_pytorch_model.safetensors"' \
    '[ -f "$work/pipeline/vae/config.json" ]' '[ ! -e "$work/pipeline/optimizer" ]'

# what a checkpoint has not trained itself is its base's
once=(model.expert=high train.steps=1 checkpoint.every=0)
tune 1 first "${once[@]}" model.from="$two"
tune 1 other "${once[@]}" model.from="$checkpoint"
check the_other_expert_begins_from_the_bases '[ $code = 0 ]' 'grep -qF "begins from $two/transformer" <<< "$said"' \
    'cmp -s "$work"/{first,other}/checkpoints/step-00000001/transformer/diffusion_pytorch_model.safetensors'

# evaluated MODEL OPTION...: its losses, a line a timestep
evaluated() { "$ZOETROPE" evaluate --model "$1" --data "$work/data" "${@:2}" 2> /dev/null < /dev/null | awk '/^[0-9]/ { print $2 }'; }
# 125, 375 and 625 are the second's, 875 is the first's
one=$work/one
cp -r "$two" "$one" && cp "$base/model_index.json" "$one/"
cp "$work/pipeline/transformer_2"/*.safetensors "$one/transformer/"
pair=$(evaluated "$work/pipeline" --bins 4)
check each_expert_is_evaluated_at_its_timesteps '[ "$(head -n 3 <<< "$pair")" = "$(evaluated "$one" --bins 4 | head -n 3)" ]' \
    '[ "$(tail -n 1 <<< "$pair")" = "$(evaluated "$base" --bins 4 | tail -n 1)" ]' \
    '[ "$pair" != "$(evaluated "$base" --bins 4)" ]' '[ "$pair" != "$(evaluated "$one" --bins 4)" ]'

# of one clip and nothing learnt: the lower half's four parts are the first four of the whole's eight
halves=$work/halves
cp -r "$two" "$halves" && sed -i 's/"boundary_ratio": 0.875/"boundary_ratio": 0.5/' "$halves/model_index.json"
mkdir "$work/single" && cp "$work/clips/1".* "$work/single"
"$ZOETROPE" ingest "$work/single" --out "$work/clip" --size 48x32 --frames 9 --fps 8 --vae "$base" \
    --text-encoder "$base" > /dev/null 2>&1
tune 1 half model.from="$halves" model.expert=low train.lr=0 train.steps=1 train.heldout_every=1 \
    data.train="$work/clip" data.heldout="$work/clip"
want=$("$ZOETROPE" evaluate --model "$halves" --data "$work/clip" --bins 8 --seed 1234 2> /dev/null < /dev/null |
    awk '/^[0-9]/ && n++ < 4 { sum += $2 } END { print sum / 4 }')
found=$(sed -nE 's/.*"heldout_loss":([-0-9.e+]*).*/\1/p' "$work/half/metrics.jsonl")
# four decimals are printed
check an_experts_heldout_loss_is_of_its_timesteps '[ $code = 0 ]' \
    'awk -v a="$want" -v b="$found" "BEGIN { exit !(b > 0 && (a - b) ^ 2 < 1e-8) }"'

# ---- what is refused -----------------------------------------------------------------------------

"$ZOETROPE" ingest "$work/clips" --out "$work/plain" --size 48x32 --frames 9 --fps 8 --vae "$base" > /dev/null 2>&1
refused an_expert_that_nobody_named 'say high or low' model.from="$two"
refused an_expert_of_one 'has one transformer' model.expert=high
refused another_size_than_the_folders 'num_layers 2' model.num_layers=5
refused a_model_of_pictures 'image-to-video model' model.from="$PWD/tests/fixtures/wan_pipelines/i2v" codec.vae="$base"
refused clips_without_embeddings 'ingest with --text-encoder' data.train="$work/plain" data.heldout= train.heldout_every=0
refused a_beginning_from_changes "its base $base" model.from="$work/low/checkpoints/step-00000004"
with_another "$base" vae "$work/other_vae"
refused latents_of_another_vae 'their latents do not compare' model.from="$work/other_vae"
with_another "$base" text_encoder "$work/other_words"
"$ZOETROPE" ingest "$work/clips" --out "$work/words" --size 48x32 --frames 9 --fps 8 --vae "$base" \
    --text-encoder "$work/other_words" > /dev/null 2>&1
refused heldout_of_another_text_encoder 'different text encoders' data.heldout="$work/words"
refused a_layer_that_is_not_there 'lora.targets' lora.rank=2 'lora.targets=[attn1.to_z]'
refused a_layer_that_is_no_matrix 'no matrix of the model' lora.rank=2 'lora.targets=[attn1.norm_q]'
refused samples_while_training 'zoetrope infer' train.sample_every=2 'train.sample_prompts=[x]'
