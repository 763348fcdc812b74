#!/bin/bash
# Requests that cannot be met, and disks that are full: one line, the right code, on one rank and on
# two, and what was there before is there after.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok bad_request "no dataset"; exit 1; }
attempt 1 "${small_train[@]}" train.steps=2
[ "$code" = 0 ] || { not_ok bad_request "no model: $said"; exit 1; }
model=$work/model
cp -r "$work/run/checkpoints/step-00000002" "$model"

# bad NAME CODE PATTERN ARGUMENT...
bad() {
    local name=$1 want=$2 pattern=$3
    shift 3
    refused "$name" "$want" "$pattern" infer --model "$model" --out "$work/v.mp4" "${small_video[@]}" "$@"
}

# ---- prompts ---------------------------------------------------------------------------------------

control=$(printf 'a\tball')
escape=$(printf 'a \033[31mball')
bad empty_prompt 2 'prompt*empty' --prompt ""
bad prompt_that_is_not_utf8 2 'prompt*UTF-8' --prompt "$(printf 'caf\xe9')"
bad prompt_of_100_kB 2 'prompt*100000' --prompt "$(head -c 100000 /dev/zero | tr '\0' a)"
sizes=1
bad prompt_cut_inside_a_character 2 'prompt*UTF-8' --prompt "$(printf 'caf\xc3')"
bad prompt_with_a_surrogate 2 'prompt*UTF-8' --prompt "$(printf 'a\xed\xa0\x80')"
bad prompt_with_a_tab 2 'prompt*control' --prompt "$control"
bad prompt_with_an_escape 2 'prompt*control' --prompt "$escape"
bad negative_that_is_not_utf8 2 'negative*UTF-8' --prompt a --negative "$(printf '\xff')"
bad no_prompt 2 'prompt'
bad prompt_and_file_of_prompts 2 'not both' --prompt a --out "$work/videos" --prompts "$work/p.txt"

# prompts NAME CODE PATTERN TEXT: a file of prompts
prompts() {
    printf %b "$4" > "$work/p.txt"
    refused "$1" "$2" "$3" infer --model "$model" --out "$work/videos" "${small_video[@]}" --prompts "$work/p.txt"
}
sizes="1 2"
prompts empty_file_of_prompts 2 'p.txt' ''
prompts file_of_prompts_with_a_bad_line 2 'p.txt:2*UTF-8' 'a ball\n\xff\xfe\n'
refused absent_file_of_prompts 3 "$work/no.txt" infer --model "$model" --out "$work/videos" --prompts "$work/no.txt"
sizes=1
prompts file_of_empty_lines 2 'p.txt' '\n\n'
prompts file_of_prompts_with_a_zero 2 'p.txt:1*' 'a\0b\n'
refused folder_as_file_of_prompts 3 "$work" infer --model "$model" --out "$work/videos" --prompts "$work/clips"
refused file_for_several_prompts 2 'folder' infer --model "$model" --out "$work/v.mp4" --prompts "$work/p.txt"

# ---- sizes and places ------------------------------------------------------------------------------

sizes="1 2"
bad size_that_is_no_multiple_of_16 2 '*size 33x32*16*' --prompt a --size 33x32
bad frames_that_are_not_4k_plus_1 2 'frames 8*4 k + 1*5 or 9' --prompt a --frames 8
bad output_folder_absent 3 "no/v.mp4*no folder $work/no" --prompt a --out "$work/no/v.mp4"
bad no_such_model 3 "$work/absent" --prompt a --model "$work/absent"
bad mesh_that_does_not_fit 2 'nearest legal' --prompt a --tensor 3
sizes=3
bad more_context_ranks_than_tokens 2 '2 tokens cannot be shared out to tensor x context = 3 ranks' --prompt a --context 3 --size 16x16 --frames 5
bad exact_context_that_does_not_divide_the_chunks 2 'tensor 1 x context 3 does not divide the 8 chunks' --prompt a --context 3 --numerics exact
sizes=1
bad size_too_large 2 'size' --prompt a --size 160000x160000
bad size_beyond_the_positions_of_the_model 2 '*' --prompt a --size 32000x16
bad frames_beyond_the_positions_of_the_model 2 '*' --prompt a --frames 100001
bad no_frames 2 'frames' --prompt a --frames 0
bad no_steps 2 'steps' --prompt a --steps 0
bad seed_that_is_no_number 2 'seed' --prompt a --seed x
bad output_of_another_format 2 '*v.mp4*apng*' --prompt a --format apng
bad unknown_device 2 'device*auto|cpu|cuda' --prompt a --device gpu
bad unknown_format 2 'format*mp4|apng|png' --prompt a --format gif
bad sheet_in_an_absent_folder 3 "no/s.png" --prompt a --sheet "$work/no/s.png"
bad latents_in_an_absent_folder 3 "no/l.safetensors" --prompt a --save-latents "$work/no/l.safetensors"
bad model_that_is_a_file 3 'bars.mp4' --prompt a --model "$work/clips/bars.mp4"
bad model_that_is_a_dataset 3 "$data" --prompt a --model "$data"
mkdir "$work/bare" && mkdir "$work/bare/checkpoints"
bad run_without_a_checkpoint 3 "$work/bare" --prompt a --model "$work/bare"
if [ ! -e "$work/v.mp4" ] && [ ! -e "$work/no" ] ; then ok refused_requests_leave_nothing
else not_ok refused_requests_leave_nothing "$(ls -d "$work"/v.mp4 "$work"/no 2> /dev/null)"; fi

# ---- what stood there before -----------------------------------------------------------------------

render=(infer --model "$model" --prompt "a ball" --out "$work/v.mp4" "${small_video[@]}")
printf 'something older' > "$work/v.mp4"
works existing_output_is_replaced "${render[@]}"
cp "$work/v.mp4" "$work/first.mp4"
if ffprobe -v error -show_entries stream=nb_frames,width,height -of csv=p=0 "$work/v.mp4" | grep -q '^32,32,9$'
then ok and_is_a_whole_video; else not_ok and_is_a_whole_video "$(ls -l "$work/v.mp4")"; fi

# on_small_disk KIB COMMAND...: with $disk a file system of that size, or, where none can be mounted,
# with files that cannot grow beyond it
disk=$work/disk
mkdir "$disk"
on_small_disk() {
    local kib=$1
    shift
    if mount -t tmpfs -o "size=${kib}k" none "$disk" 2> /dev/null; then
        trap 'umount "$disk"; rm -rf "$work"' EXIT
        "$@"
        umount "$disk"
        trap 'rm -rf "$work"' EXIT
    else
        (trap '' XFSZ; ulimit -f "$kib"; "$@")
        rm -rf "${disk:?}"/*
    fi
}

video_on_full_disk() {
    cp "$work/first.mp4" "$disk/v.mp4"
    [ "$(df --output=fstype "$disk" | tail -n 1)" = tmpfs ] && dd if=/dev/zero of="$disk/ballast" status=none 2> /dev/null
    refused "$1" 3 "disk/$2*" infer --model "$model" --prompt "another ball" --seed 5 --out "$disk/$3" "${@:4}" "${small_video[@]}"
    if cmp -s "$disk/v.mp4" "$work/first.mp4" && [ -z "$(find "$disk" -mindepth 1 ! -name ballast ! -name v.mp4)" ]; then ok "${1}_and_leaves_what_was_there"
    else not_ok "${1}_and_leaves_what_was_there" "$(ls -l "$disk")"; fi
}
sizes="1 2"
on_small_disk 8 video_on_full_disk full_disk_ends_a_video v.mp4 v.mp4
sizes=1
on_small_disk 8 video_on_full_disk full_disk_ends_a_preview w.apng w.apng
on_small_disk 8 video_on_full_disk full_disk_ends_frames frames frames --format png

# the first checkpoint fits, a later one does not: the first stays and is resumed from
ranks_of_run=1
run_on_full_disk() {
    sizes=$ranks_of_run
    refused "full_disk_ends_a_run_on_$sizes" 3 "disk/run*" "${small_train[@]}" run.dir="$disk/run" checkpoint.keep=9 train.steps=12
    last=$(newest_checkpoint "$disk/run")
    if [ -n "$last" ] && [ "$last" != step-00000012 ]; then ok "earlier_checkpoints_stay_on_$sizes"
    else not_ok "earlier_checkpoints_stay_on_$sizes" "$(ls "$disk/run" "$disk/run/checkpoints")"; fi
    cp -r "$disk/run" "$work/moved_$sizes"
}
for ranks_of_run in 1 2; do
    on_small_disk $(($(du -sk "$model" | cut -f 1) * 5 / 2)) run_on_full_disk
    works "run_from_a_full_disk_goes_on_elsewhere_$ranks_of_run" "${small_train[@]}" run.dir="$work/moved_$ranks_of_run" train.steps=12
    if grep -q "resumed from" "$work/stderr"; then ok "from_its_last_checkpoint_$ranks_of_run"
    else not_ok "from_its_last_checkpoint_$ranks_of_run" "$(tail -n 1 "$work/stderr")"; fi
done

dataset_on_full_disk() {
    refused full_disk_ends_an_ingest 3 "disk/d*" ingest "$work/clips" --out "$disk/d" --frames 9 --size 32x32 --stride 2
    if [ -z "$(ls "$disk")" ]; then ok full_disk_leaves_no_dataset; else not_ok full_disk_leaves_no_dataset "$(ls -R "$disk")"; fi
}
sizes=1
on_small_disk 64 dataset_on_full_disk
