#!/bin/bash
# `zoetrope infer` and `zoetrope evaluate` on a model of a few steps: files that ffprobe reads, the
# same bytes twice, one-line errors with their exit codes, nothing half-made under a final name.
# shellcheck disable=SC2016,SC2034,SC2154,SC2317 # conditions are expressions that `check` evaluates
set -u
cd "$(dirname "$0")/../.." || exit 1
source tests/e2e/train_support.sh
data=$work/data

# run ARGUMENT...: the exit code in `code`, standard error in `said`, standard output in `told`
run() {
    "$@" > "$work/stdout" 2> "$work/stderr" < /dev/null
    code=$?
    said=$(cat "$work/stderr") told=$(cat "$work/stdout")
}
infer() { run "$ZOETROPE" infer --model "$work/run" --steps 3 --size 32x32 --frames 9 --fps 6 "$@"; }

probe() { ffprobe -v error -count_frames -select_streams v -show_entries "$1" -of csv=p=0 "$2"; }
nothing() { [ -z "$(find "$work" -name "$1*")" ]; }

if ! make_dataset "$data" || ! train 1 "$work/run" train.steps=3 train.warmup=1 data.batch=2 data.micro_batch=2; then
    not_ok a_model_is_trained "$(tail -n 1 "$work/run.log")"
    exit 1
fi

# ---- what works ----------------------------------------------------------------------------------

infer --prompt 'a fractal "grows"' --negative dull --seed 7 --out "$work/a.mp4" --sheet "$work/a.png"
check a_prompt_becomes_h264_of_the_asked_size '[ $code = 0 ]' \
    '[ "$(probe stream=codec_name,width,height,pix_fmt,r_frame_rate,nb_read_frames "$work/a.mp4")" = h264,32,32,yuv420p,6/1,9 ]' \
    '[ "$(sed -n 1p <<< "$told")" = "$work/a.mp4" ]' \
    '[ "$(probe stream=codec_name,width "$work/a.png")" = png,984 ]'
check the_file_says_how_it_was_made \
    'ffprobe -v error -show_entries format_tags "$work/a.mp4" | grep -qF "\"prompt\":\"a fractal \\\"grows\\\"\",\"negative\":\"dull\",\"seed\":7"'

infer --prompt 'a fractal "grows"' --negative dull --seed 7 --out "$work/b.mp4"
check the_same_seed_writes_the_same_bytes '[ $code = 0 ]' 'cmp -s "$work/a.mp4" "$work/b.mp4"'
infer --prompt 'a fractal "grows"' --negative dull --seed 8 --out "$work/b.mp4"
check another_seed_replaces_the_file '[ $code = 0 ]' '! cmp -s "$work/a.mp4" "$work/b.mp4"'

infer --prompt x --seed 7 --out "$work/u.mp4" --solver unipc --save-latents "$work/u.safetensors"
run "$ZOETROPE" infer --model "$work/run" --steps 3 --size 32x32 --frames 9 --fps 6 --prompt x --seed 7 \
    --solver unipc --schedule original --out "$work/o.mp4" --save-latents "$work/o.safetensors" --quiet
check another_solver_and_schedule_make_another_video '[ $code = 0 ]' '! cmp -s "$work/u.safetensors" "$work/o.safetensors"' \
    'ffprobe -v error -show_entries format_tags "$work/o.mp4" | grep -qF "\"solver\":\"unipc\",\"schedule\":\"original\""'

printf 'one\n\ntwo, caf\303\251\nthree\n' > "$work/prompts.txt"
run mpirun -n 4 "$ZOETROPE" infer --model "$work/run" --steps 2 --size 48x32 --frames 5 --pipeline 2 \
    --prompts "$work/prompts.txt" --out "$work/many" --quiet
check a_file_of_prompts_is_dealt_over_the_mesh '[ $code = 0 ]' \
    '[ "$(ls "$work/many" | tr "\n" " ")" = "0001-one.mp4 0002-two-caf.mp4 0003-three.mp4 " ]' \
    '[ "$(probe stream=width,height,nb_read_frames "$work/many/0003-three.mp4")" = 48,32,5 ]'
run mpirun -n 2 "$ZOETROPE" infer --model "$work/run" --steps 2 --size 48x32 --frames 5 --guidance-ranks 2 \
    --prompts "$work/prompts.txt" --out "$work/halves" --sheet "$work/halves.png" --quiet
check two_ranks_share_the_halves_of_guidance '[ $code = 0 ]' \
    '[ "$(ls "$work/halves" | wc -l)" = 3 ]' '[ "$(probe stream=codec_name "$work/halves.png")" = png ]'

printf 'one\n%02000d\n' 0 > "$work/wordy.txt"
infer --prompts "$work/wordy.txt" --share 2/2 --out "$work/wordy"
check prompts_keep_their_numbers_in_a_share '[ $code = 0 ]' '[ "$(cd "$work/wordy" && echo 0002-*)" != "0002-*" ]' \
    'grep -q "prompt 2 has 2000 bytes" <<< "$said"'

infer --prompt x --out "$work/x.apng"
check a_preview_is_an_animated_png '[ $code = 0 ]' \
    '[ "$(probe stream=codec_name,nb_read_frames "$work/x.apng")" = apng,9 ]'
infer --prompt x --out "$work/pictures" --format png
check frames_are_numbered_pictures '[ $code = 0 ]' '[ "$(find "$work/pictures" -name "frame-0000?.png" | wc -l)" = 9 ]'

run "$ZOETROPE" evaluate --model "$work/run" --data "$data" --steps 3 --bins 3 --out "$work/scenes"
check evaluate_prints_losses_and_the_match_last '[ $code = 0 ]' \
    '[ "$(grep -cE "^[0-9]+ +[0-9.]+$" <<< "$told")" = 3 ]' \
    '[[ $(tail -n 1 <<< "$told") =~ ^"caption match "[0-2]" of 2"$ ]]' \
    '[ "$(ls "$work/scenes" | tr "\n" " ")" = "0001-coloured-bars-with-a-counter.mp4 0002-a-fractal-grows.mp4 sheet.png " ]'
alone=$told
run mpirun -n 2 "$ZOETROPE" evaluate --model "$work/run" --data "$data" --steps 3 --bins 3 --quiet
check evaluate_tells_the_same_on_two_ranks '[ $code = 0 ]' '[ "$told" = "$alone" ]'
run mpirun -n 2 "$ZOETROPE" evaluate --model "$work/run" --data "$data" --steps 3 --bins 3 --guidance-ranks 2 --quiet
check evaluate_tells_the_same_with_guidance_on_two_ranks '[ $code = 0 ]' '[ "$told" = "$alone" ]'

# ---- what is refused -----------------------------------------------------------------------------

head -c 100000 /dev/zero | tr '\0' a > "$work/long.txt"
printf 'fine\n\377\376\n' > "$work/latin.txt"
: > "$work/empty.txt"

# refused NAME CODE TEXT ARGUMENT...: that exit code, that text in one line, nothing called "no.mp4"
refused() {
    local name=$1 expected=$2 text=$3
    shift 3
    infer "$@"
    check "$name" '[ $code = "$expected" ]' 'says "$text"' 'nothing no.mp4' '[ -z "$told" ]'
}
no=$work/no.mp4
refused an_empty_prompt 2 'empty' --prompt '' --out "$no"
refused a_prompt_of_100_kb 2 '100000 bytes' --prompt "$(cat "$work/long.txt")" --out "$no"
refused a_prompt_that_is_not_utf8 2 'not UTF-8' --prompt $'caf\xe9' --out "$no"
refused a_prompt_with_control_characters 2 '0x1b' --prompt $'\x1b[31mred' --out "$no"
refused a_line_that_is_not_utf8 2 "latin.txt:2 is not UTF-8" --prompts "$work/latin.txt" --out "$work/f"
refused a_file_without_prompts 2 'empty.txt: has no prompt' --prompts "$work/empty.txt" --out "$work/f"
refused a_file_of_prompts_that_is_absent 3 'absent.txt' --prompts "$work/absent.txt" --out "$work/f"
refused an_output_folder_that_is_absent 3 'there is no folder' --prompt x --out "$work/absent/no.mp4"
refused a_sheet_in_a_folder_that_is_absent 3 'there is no folder' --prompt x --out "$no" --sheet "$work/absent/s.png"
refused frames_that_are_not_4k_plus_1 2 '--frames 16' --prompt x --out "$no" --frames 16
refused a_size_that_is_no_multiple_of_16 2 '40x32' --prompt x --out "$no" --size 40x32
refused an_unknown_option 2 'steps' --prompt x --out "$no" --stepz 3
refused a_model_that_is_absent 3 'nowhere' --prompt x --out "$no" --model "$work/nowhere"
refused a_mesh_that_does_not_fit 2 'tensor 3' --prompt x --out "$no" --tensor 3
refused halves_of_guidance_on_one_rank 2 'start a multiple of 2 ranks' --prompt x --out "$no" --guidance-ranks 2
refused a_schedule_that_the_solver_has_not 2 'solver heun has no schedule "original"' --prompt x --out "$no" \
    --solver heun --schedule original
refused halves_of_guidance_that_is_off 2 'one half only' --prompt x --out "$no" --guidance-ranks 2 --guidance 1
refused pictures_over_those_that_are_there 2 '9 entries' --prompt x --out "$work/pictures" --format png

run mpirun -n 2 "$ZOETROPE" infer --model "$work/run" --prompt $'\xff' --out "$no" --quiet
check ranks_refuse_with_one_line '[ $code = 2 ]' 'says "not UTF-8"' 'nothing no.mp4'

# a limit on the size of files stands for a full disk
run bash -c 'ulimit -f 1; exec "$0" infer --model "$1" --steps 2 --prompt x --quiet --out "$2"' \
    "$ZOETROPE" "$work/run" "$no"
check a_full_disk_is_named_and_leaves_nothing '[ $code = 3 ]' 'says "no.mp4: write: File too large"' 'nothing no.mp4'

"$ZOETROPE" infer --model "$work/run" --prompt x --steps 1000 --quiet --out "$no" 2> /dev/null &
sleep 1
kill -9 $! && wait $! 2> /dev/null
code=$? said=
check a_killed_run_leaves_no_file_of_that_name '[ $code = 137 ]' '[ ! -e "$no" ]'
