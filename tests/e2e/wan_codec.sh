#!/bin/bash
# A Wan VAE in place of the linear codec: ingested with, trained on, sampled from, on one rank and
# on several, and what is refused. The VAE is the small random one of tests/fixtures.
# shellcheck disable=SC2016,SC2034,SC2154,SC2317 # conditions are expressions that `check` evaluates
set -u
cd "$(dirname "$0")/../.." || exit 1
source tests/e2e/train_support.sh
vae=tests/fixtures/wan_vae_21

# run ARGUMENT...: the exit code in `code`, standard error in `said`
run() {
    "$@" > "$work/stdout" 2> "$work/stderr" < /dev/null
    code=$?
    said=$(cat "$work/stderr")
}

# the frames of a video as bytes
pixels() { ffmpeg -v error -i "$1" -f rawvideo -pix_fmt rgb24 - < /dev/null | sha256sum; }

# ---- ingest --------------------------------------------------------------------------------------

make_dataset
clips=("$work/clips" --frames 9 --size 32x32 --fps 8 --stride 4)
run "$ZOETROPE" ingest "${clips[@]}" --out "$work/wan" --vae $vae
digest=$(sed -n 's/.*codec wan, 5 channels, .* sha256 //p' <<< "$said")
check clips_become_latents_of_a_vae '[ $code = 0 ]' '[ -s "$work/wan/dataset.json" ]' '[ -n "$digest" ]'
mkdir "$work/pipeline" && cp -r $vae "$work/pipeline/vae"
run "$ZOETROPE" ingest "${clips[@]}" --out "$work/again" --vae "$work/pipeline" --workers 2
check a_pipeline_lends_its_vae_and_writes_the_same_bytes '[ $code = 0 ]' \
    'cmp -s "$work/wan/shard-00000.h5" "$work/again/shard-00000.h5"'
run "$ZOETROPE" ingest "${clips[@]}" --out "$work/no" --vae $vae --codec "$data"
check two_codecs_are_refused '[ $code = 2 ]' 'says --vae' '[ ! -e "$work/no" ]'
run "$ZOETROPE" ingest "$work/clips" --frames 9 --size 48x32 --out "$work/no" --vae tests/fixtures/wan_vae_22
check sides_that_this_vae_cannot_halve_are_refused '[ $code = 2 ]' 'says "multiples of 32"' '[ ! -e "$work/no" ]'
run "$ZOETROPE" ingest "${clips[@]}" --out "$work/no" --vae "$work/clips"
check a_folder_that_is_no_vae_is_refused '[ $code = 3 ]' 'says config.json' '[ ! -e "$work/no" ]'

# ---- train ---------------------------------------------------------------------------------------

linear=$data data=$work/wan
keys=(codec.kind=wan codec.vae="$work/pipeline" model.num_layers=2 model.num_attention_heads=2
    model.attention_head_dim=16 model.ffn_dim=64 text.num_layers=1 data.batch=2 data.micro_batch=2
    train.steps=3 train.warmup=0 train.sample_every=3 train.sample_prompts='["a fractal grows"]')
run train 1 "$work/one" "${keys[@]}"
check a_run_trains_on_them_and_renders_samples '[ $code = 0 ]' \
    '[ "$(column "$work/one" step | tail -n 1)" = 3 ]' '[ -s "$work/one/samples/step-00000003-1.mp4" ]'
"$ZOETROPE" plan configs/tiny.yaml data.train="$data" "${keys[@]}" parallel.threads=1 --json > "$work/plan.json"
rows() { sed -nE 's/^ *("memory": \[\{.*\]),?$/\1/p' "$1"; }
check a_plan_counts_the_vae_of_samples '[ -n "$(rows "$work/plan.json")" ]' \
    '[ "$(rows "$work/plan.json")" = "$(rows "$work/one/memory.json")" ]'
run train 2 "$work/two" "${keys[@]}" parallel.tensor=2
check ranks_that_share_a_model_share_its_vae '[ $code = 0 ]' '[ -s "$work/two/samples/step-00000003-1.mp4" ]'

run "$ZOETROPE" train configs/tiny.yaml run.dir="$work/no" data.train="$data" "${keys[@]:2}"
check a_dataset_of_another_codec_is_refused '[ $code = 2 ]' 'says codec.kind'
run "$ZOETROPE" train configs/tiny.yaml run.dir="$work/no" data.train="$data" codec.kind=wan
check a_vae_that_is_not_named_is_refused '[ $code = 2 ]' 'says codec.vae'
run "$ZOETROPE" train configs/tiny.yaml run.dir="$work/no" data.train="$data" "${keys[@]}" \
    codec.vae=tests/fixtures/wan_vae_22
check another_vae_than_the_datasets_is_refused '[ $code = 2 ]' 'says "another VAE"'

# ---- infer ---------------------------------------------------------------------------------------

infer=(infer --model "$work/one" --prompt 'a fractal grows' --steps 3 --size 32x48 --frames 9 --seed 5)
run "$ZOETROPE" "${infer[@]}" --out "$work/a.apng"
check a_checkpoint_finds_the_vae_of_its_run '[ $code = 0 ]' '[ -s "$work/a.apng" ]'
run mpirun -n 2 "$ZOETROPE" "${infer[@]}" --tensor 2 --numerics exact --out "$work/b.apng" --sheet "$work/b.png"
run "$ZOETROPE" "${infer[@]}" --numerics exact --out "$work/c.apng"
check two_ranks_decode_the_frames_of_one '[ $code = 0 ]' '[ -s "$work/b.png" ]' \
    '[ "$(pixels "$work/b.apng")" = "$(pixels "$work/c.apng")" ]'
run mpirun -n 2 "$ZOETROPE" "${infer[@]}" --tensor 2 --out "$work/none/b.apng"
check a_video_that_cannot_be_written_ends_all_ranks '[ $code = 3 ]' 'says "$work/none"'
run "$ZOETROPE" evaluate --model "$work/one" --data "$work/wan" --bins 2 --scenes 1 --steps 2 --out "$work/looks"
check evaluate_renders_with_the_vae '[ $code = 0 ]' '[ -s "$work/looks/sheet.png" ]'
run "$ZOETROPE" evaluate --model "$work/one" --data "$linear" --scenes 0
check latents_of_another_codec_do_not_compare '[ $code = 2 ]' 'says codec'

mv "$work/pipeline" "$work/elsewhere"
run "$ZOETROPE" "${infer[@]}" --out "$work/d.apng"
check a_vae_that_is_gone_is_named '[ $code = 3 ]' 'says "$work/pipeline"' '[ ! -e "$work/d.apng" ]'
checkpoint=$work/one/checkpoints/step-00000003
run "$ZOETROPE" inspect "$checkpoint/codec"
check the_reference_is_shown '[ $code = 0 ]' 'grep -q "$digest" "$work/stdout"'
run "$ZOETROPE" inspect $vae --digest
check a_vae_is_shown_with_its_digest '[ $code = 0 ]' 'grep -q "$digest" "$work/stdout"'
cp -r "$checkpoint" "$work/model"
rm "$work/model/manifest.json" "$work/model/state.json"
ln -s "$work/elsewhere/vae" "$work/model/vae"
run "$ZOETROPE" "${infer[@]}" --model "$work/model" --out "$work/d.apng"
check a_link_to_the_vae_beside_it_is_enough '[ $code = 0 ]' '[ "$(pixels "$work/a.apng")" = "$(pixels "$work/d.apng")" ]'
rm "$work/model/vae"
ln -s "$PWD/tests/fixtures/wan_vae_22" "$work/model/vae"
run "$ZOETROPE" "${infer[@]}" --model "$work/model" --out "$work/e.apng"
check another_vae_beside_it_is_refused '[ $code = 3 ]' 'says "another VAE"'
