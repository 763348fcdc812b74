#!/bin/bash
# `zoetrope infer` on folders that diffusers saved: every way to begin a video, and what is refused
# with one line. What is made is compared with diffusers in tests/mpi/test_wan_pipelines.c.
# shellcheck disable=SC2016,SC2034,SC2154,SC2317 # conditions are expressions that `check` evaluates
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/e2e/check_support.sh
. tests/e2e/check_support.sh
fixtures=$PWD/tests/fixtures/wan_pipelines

# infer MODEL ARGUMENT...: a few steps; the exit code in `code`, standard error in `said`
infer() {
    local model=$1
    shift
    "$ZOETROPE" infer --model "$model" --prompt "a red fox" --steps 2 --frames 9 --threads 1 "$@" \
        > "$work/stdout" 2> "$work/stderr" < /dev/null
    code=$?
    said=$(cat "$work/stderr")
}
frames() { ffprobe -v error -count_frames -select_streams v -show_entries stream=width,height,nb_read_frames -of csv=p=0 "$1"; }
# refused NAME CODE TEXT MODEL ARGUMENT...
refused() {
    local name=$1 expected=$2 text=$3
    shift 3
    infer "$@" --out "$work/no.mp4"
    check "$name" '[ $code = "$expected" ]' 'says "$text"' '[ ! -e "$work/no.mp4" ]'
}

ffmpeg -v error -y -f lavfi -i testsrc2=size=100x60:rate=16:duration=2 -pix_fmt yuv420p "$work/clip.mp4" < /dev/null
ffmpeg -v error -y -f lavfi -i testsrc2=size=100x60 -frames:v 1 "$work/picture.jpg" < /dev/null

# ---- ways to begin -------------------------------------------------------------------------------

infer "$fixtures/t2v" --size 48x32 --out "$work/t.mp4"
check text_becomes_a_video '[ $code = 0 ]' '[ "$(frames "$work/t.mp4")" = 48,32,9 ]'
infer "$fixtures/t2v" --size 48x32 --frames 1 --out "$work/one.png"
check text_becomes_a_picture '[ $code = 0 ]' '[ "$(frames "$work/one.png")" = 48,32,1 ]'
infer "$fixtures/t2v" --size 48x32 --out "$work/many.png"
check a_picture_of_many_frames '[ $code = 2 ]' 'says "give --frames 1"' '[ ! -e "$work/many.png" ]'
infer "$fixtures/i2v" --size 32x32 --image "$work/picture.jpg" --out "$work/i.mp4"
check a_picture_and_its_image_tokens_become_a_video '[ $code = 0 ]' '[ "$(frames "$work/i.mp4")" = 32,32,9 ]'
infer "$fixtures/flf2v" --size 32x32 --image "$work/picture.jpg" --last-image "$fixtures/flf2v/last_image.png" --out "$work/f.mp4"
check a_first_and_a_last_frame_become_a_video '[ $code = 0 ]' '[ "$(frames "$work/f.mp4")" = 32,32,9 ]'
infer "$fixtures/ti2v" --size 64x64 --image "$work/picture.jpg" --out "$work/ti.mp4"
check a_given_first_frame_becomes_a_video '[ $code = 0 ]' '[ "$(frames "$work/ti.mp4")" = 64,64,9 ]'
infer "$fixtures/ti2v" --size 64x64 --out "$work/ti2.mp4"
check the_same_model_takes_text_alone '[ $code = 0 ]'
infer "$fixtures/t2v" --size 48x32 --video "$work/clip.mp4" --strength 0.5 --out "$work/v.mp4"
check a_video_becomes_another '[ $code = 0 ]' '[ "$(frames "$work/v.mp4")" = 48,32,9 ]'
infer "$fixtures/ti2v" --size 64x64 --continue "$work/clip.mp4" --out "$work/c.mp4"
check a_clip_goes_on_where_frames_are_given '[ $code = 0 ]' '[ "$(frames "$work/c.mp4")" = 64,64,9 ]'
infer "$fixtures/i2v_a14b" --size 32x48 --continue "$work/clip.mp4" --overlap 4 --out "$work/c2.mp4"
check a_clip_goes_on_through_a_mask '[ $code = 0 ]'
infer "$fixtures/i2v_a14b" --size 32x48 --continue "$work/clip.mp4" --backward --out "$work/c3.mp4"
check a_clip_is_begun_earlier '[ $code = 0 ]' '! cmp -s "$work/c2.mp4" "$work/c3.mp4"'
infer "$fixtures/t2v" --size 48x32 --lora tests/fixtures/wan_lora/diffusers.safetensors --out "$work/no.mp4"
check a_lora_of_another_model_is_refused '[ $code = 3 ]' 'says "blocks"'
cp tests/fixtures/wan_lora/diffusers.safetensors "$work/r=4.safetensors"
infer "$fixtures/t2v" --size 48x32 --lora "$work/r=4.safetensors" --out "$work/no.mp4"
check a_path_may_hold_an_equals_sign '[ $code = 3 ]' 'says "r=4.safetensors"' 'says "blocks"'
infer "$fixtures/t2v" --size 48x32 --dtype bf16 --out "$work/b.mp4"
check weights_may_be_kept_in_bf16 '[ $code = 0 ]' 'grep -q BF16 <<< "$said"'

# ---- what a request may not ask for --------------------------------------------------------------

refused frames_that_are_not_4k_plus_1 2 '--frames 80: must be 4 k + 1, as 77 or 81' "$fixtures/t2v" --frames 80
refused a_side_that_16_does_not_divide 2 'multiples of 16 for this model (nearest: 48x32)' "$fixtures/t2v" --size 50x32
refused a_side_that_32_does_not_divide 2 'multiples of 32 for this model (nearest: 64x96)' "$fixtures/ti2v" --size 64x80
refused a_picture_for_a_model_of_text 2 'takes no frames' "$fixtures/t2v" --size 48x32 --image "$work/picture.jpg"
refused a_model_of_pictures_without_one 2 'give it --image' "$fixtures/i2v_a14b" --size 32x48
refused a_last_picture_alone 2 'goes with --image' "$fixtures/flf2v" --last-image "$work/picture.jpg"
refused a_picture_that_is_none 3 '--image' "$fixtures/ti2v" --size 64x64 --image tests/run.sh
ffmpeg -v error -y -f lavfi -i color=size=4000x20 -frames:v 1 "$work/strip.png" < /dev/null
refused a_picture_too_narrow_for_its_shape 2 'give --size' "$fixtures/ti2v" --image "$work/strip.png"
refused a_picture_that_is_absent 3 'nowhere.png' "$fixtures/ti2v" --size 64x64 --image "$work/nowhere.png"
refused a_clip_that_is_too_short 2 "9 are wanted" "$fixtures/t2v" --size 48x32 --video "$work/picture.jpg"
refused strength_without_a_video 2 'goes with --video' "$fixtures/t2v" --strength 0.5
refused noise_of_another_shape 3 'this video needs' "$fixtures/t2v" --size 32x32 --noise "$fixtures/t2v/noise.safetensors"
refused a_lora_that_is_not_there 3 'nowhere.safetensors: no such file' "$fixtures/t2v" --size 48x32 --lora "$work/nowhere.safetensors"
check and_is_named_before_texts_are_encoded '! grep -q "text encoder" <<< "$said"'
refused a_lora_for_an_expert_that_is_not_there 2 'use --lora' "$fixtures/t2v" --size 48x32 --lora-low x.safetensors
refused guidance_of_an_expert_that_is_not_there 2 'use --guidance' "$fixtures/t2v" --size 48x32 --guidance-low 3

# ---- damaged and foreign folders -----------------------------------------------------------------

# broken NAME: a copy of the text-to-video folder to do damage to, in $broken
broken() {
    broken=$work/$1
    cp -rL "$fixtures/t2v" "$broken"
    chmod -R u+w "$broken"
}
split=$work/split
"$ZOETROPE" convert "$fixtures/t2v" "$split" --names diffusers --shard-size 40KB --quiet > /dev/null

broken class
sed -i 's/WanTransformer3DModel/FluxTransformer2DModel/' "$broken/transformer/config.json"
refused a_transformer_of_another_class 3 'FluxTransformer2DModel' "$broken" --size 48x32
broken pipeline
sed -i 's/"WanPipeline"/"FluxPipeline"/' "$broken/model_index.json"
refused a_pipeline_of_another_kind 3 'FluxPipeline' "$broken" --size 48x32
broken missing
rm -r "$broken/transformer" && cp -r "$split/transformer" "$broken/transformer" && rm "$broken"/transformer/*-00002-of-*
refused a_shard_that_is_missing 3 '-00002-of-' "$broken" --size 48x32
broken foreign
cp tests/fixtures/wan_variants/t2v/diffusion_pytorch_model.safetensors "$broken/transformer/"
refused weights_of_another_model 3 'the model needs' "$broken" --size 48x32
broken outside
rm -r "$broken/transformer" && cp -r "$split/transformer" "$broken/transformer"
sed -i '0,/diffusion_pytorch_model-00001/s//..\/diffusion_pytorch_model-00001/' "$broken"/transformer/*.index.json
refused an_index_that_leads_outside 3 '..' "$broken" --size 48x32
broken nan
file=$broken/transformer/diffusion_pytorch_model.safetensors
# the last four bytes of the data become the NaN 0x7fc00000
printf '\000\000\300\177' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 4)) conv=notrunc 2> /dev/null
refused weights_that_are_not_finite 3 'holds a value that is not finite' "$broken" --size 48x32
infer "$broken" --size 48x32 --allow-nan --out "$work/no.mp4"
check weights_that_are_not_finite_are_named_when_forced 'grep -q "warning: .*not finite" <<< "$said"'
broken tokenizer
sed -i 's/"vocab_size": 448/"vocab_size": 300/' "$broken/text_encoder/config.json"
refused a_tokenizer_that_does_not_fit 3 'do not' "$broken" --size 48x32
broken encoder
sed -i 's/"d_model": 32/"d_model": 64/' "$broken/text_encoder/config.json"
refused an_encoder_of_another_width 3 "they do not belong together" "$broken" --size 48x32
broken pieces
head -c 1000 /dev/urandom > "$broken/tokenizer/spiece.model"
refused a_tokenizer_that_is_none 3 'spiece.model' "$broken" --size 48x32
cp -rL "$fixtures/i2v" "$work/tokens" && chmod -R u+w "$work/tokens"
sed -i 's/"in_channels": [0-9]*/"in_channels": 5/' "$work/tokens/transformer/config.json"
refused image_tokens_of_no_picture 2 'give it --image' "$work/tokens" --size 32x32
broken boundary
sed -i 's/"transformer_2": \[/"transformer_2": [ "diffusers", "WanTransformer3DModel"], "x": [/' "$broken/model_index.json"
refused a_second_expert_without_a_boundary 3 'boundary_ratio' "$broken" --size 48x32

# ---- a video that cannot be put into place -------------------------------------------------------

# the ranks share the decoding; the one that writes fails at the very end of the first of two
printf 'a fox\na dog\n' > "$work/two.txt"
timeout 60 mpirun -n 2 "$ZOETROPE" infer --model "$fixtures/t2v" --prompts "$work/two.txt" --out "$work/two" \
    --size 144x96 --steps 2 --tensor 2 --threads 1 > "$work/said" 2>&1 < /dev/null &
launched=$!
for _ in $(seq 5000); do [ -e "$work/two/0001-a-fox.mp4.tmp" ] && break; sleep 0.002; done
mkdir -p "$work/two/0001-a-fox.mp4/taken"
wait $launched
code=$?
said=$(cat "$work/said")
check a_failed_commit_ends_every_rank '[ $code = 3 ]' 'says "0001-a-fox.mp4: rename"' '[ ! -e "$work/two/0002-a-dog.mp4" ]'

# ---- sizes that nobody gave ----------------------------------------------------------------------

# refused by its model, once the size is known: 100x60 in the area of 832x480
refused a_picture_that_the_model_does_not_take 2 'takes no frames' "$fixtures/t2v" --image "$work/picture.jpg"
check a_picture_decides_the_shape 'grep -q "settings of Wan2.1-T2V-1.3B: 800x480" <<< "$said"'
