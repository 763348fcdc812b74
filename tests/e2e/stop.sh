#!/bin/bash
# Signals and time limits, wherever they find the program: code 75, what is committed is whole, and the
# same command goes on to the same bytes. One rank gets the signal; all of them hear of it.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok stop "no dataset"; exit 1; }

# begin LOG COMMAND...: in the background; its process in `job`
begin() {
    local log=$1
    shift
    timeout -k 5 100 "$@" > "$log.out" 2> "$log" < /dev/null &
    job=$!
}
# until_says LOG TEXT
until_says() {
    local i
    for ((i = 0; i < 1200; i++)); do
        grep -qsa -- "$2" "$1" && return
        kill -0 $job 2> /dev/null || return
        sleep 0.05
    done
}
# last_rank: the process of one rank, not the first where there are several
last_rank() {
    local pid=$job child
    for ((i = 0; i < 3; i++)); do
        child=$(pgrep -P "$pid" | tail -n 1)
        [ -n "$child" ] && pid=$child
        [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = zoetrope ] && break
    done
    echo "$pid"
}
# ended: waits; the code in `code`
ended() {
    wait $job
    code=$?
}
# verdict NAME LOG TEXT: code 75 and that text in the one line of error
verdict() {
    if [ "$code" = 75 ] && [ "$(grep -ac '^zoetrope: ' "$2")" = 1 ] && grep -a '^zoetrope: ' "$2" | grep -q -- "$3"; then ok "$1"
    else not_ok "$1" "code $code: $(grep -a '^zoetrope: ' "$2" | head -n 2)"; fi
}

# ---- training ------------------------------------------------------------------------------------

same_end() { # NAME RUN: the losses of the run that nobody stopped
    if [ -n "$(column "$work/whole" loss_hex)" ] && [ "$(column "$work/whole" loss_hex)" = "$(column "$2" loss_hex)" ]; then ok "$1"
    else not_ok "$1" "$(column "$2" loss_hex | wc -l) steps: $(tail -n 1 "$2.log")"; fi
}
long=("${small_train[@]}" train.schedule=constant checkpoint.every=0)
"$ZOETROPE" "${long[@]}" train.steps=100 run.dir="$work/whole" > "$work/whole.log" 2>&1

# 3 s from the start are half a margin of 600
limited=$work/limited
begin "$limited.log" "$ZOETROPE" "${long[@]}" train.steps=1000000 run.dir="$limited" run.time_limit=00:00:03 run.time_margin_s=600
ended
verdict time_limit_ends_with_75 "$limited.log" 'stopped by run.time_limit after step [0-9]'
last=$(newest_checkpoint "$limited")
if [ $((10#${last#step-})) = "$(column "$limited" step | wc -l)" ]; then ok time_limit_commits_the_last_step
else not_ok time_limit_commits_the_last_step "$last, $(column "$limited" step | wc -l) steps"; fi

parts=$work/parts
begin "$parts.log" mpirun -n 2 env SLURM_JOB_END_TIME=$(($(date +%s) + 4)) "$ZOETROPE" "${long[@]}" \
    train.steps=1000000 run.dir="$parts" parallel.tensor=2
ended
verdict end_of_the_slurm_job_ends_every_rank_with_75 "$parts.log" 'stopped by run.time_limit after step [0-9]'
begin "$parts.log" env SLURM_JOB_END_TIME=$(($(date +%s) - 9)) "$ZOETROPE" "${long[@]}" train.steps=3 run.dir="$work/none" run.time_limit=none
ended
if [ $code = 0 ]; then ok no_limit_is_none
else not_ok no_limit_is_none "code $code"; fi

begun=$work/begun
begin "$begun.log" mpirun -n 2 "$ZOETROPE" "${long[@]}" train.steps=100 run.dir="$begun"
until_says "$begun.log" 'parameters; mesh'
kill -USR1 "$(last_rank)"
ended
verdict signal_at_start_ends_with_75 "$begun.log" 'stopped by a signal'

# videos and held-out losses that would take minutes after every step
for what in sample heldout; do
    run=$work/$what
    keys=(train.sample_every=1 'train.sample_prompts=[a fractal, bars, waves, snow]')
    [ $what = heldout ] && keys=(train.heldout_every=1 data.heldout="$data")
    begin "$run.log" mpirun -n 2 "$ZOETROPE" train configs/tiny.yaml data.train="$data" run.dir="$run" parallel.threads=1 \
        train.steps=1000 checkpoint.every=0 train.warmup=0 "${keys[@]}"
    until_says "$run.log" 'matrix rate'
    for ((i = 0; i < 100; i++)); do
        [ "$(column "$run" step 2> /dev/null | wc -l)" -gt 0 ] && break
        [ $what = sample ] && [ -d "$run/samples" ] && break
        sleep 0.05
    done
    kill -USR1 "$(last_rank)"
    ended
    verdict "signal_in_${what}_ends_with_75" "$run.log" 'after step [0-9]*; the checkpoint is committed'
done

# ---- sampling ------------------------------------------------------------------------------------

run=$work/whole
printf 'a fractal\nbars\n\nwaves\nsnow\na dog\n' > "$work/prompts.txt"
render() { "$ZOETROPE" infer --model "$run" "${small_video[@]}" --prompts "$work/prompts.txt" --quiet "$@" > /dev/null 2> "$work/stderr"; }

# stopped NAME RANKS ARGUMENT...: the signal reaches one rank in the middle of a long request
stopped() {
    local name=$1 ranks=$2 log=$work/infer.log launch=() found
    shift 2
    ((ranks > 1)) && launch=(mpirun -n "$ranks")
    rm -rf "$work/cut"
    begin "$log" "${launch[@]}" "$ZOETROPE" infer --model "$run" --size 128x96 --frames 17 --steps 1000 --threads 1 \
        --prompts "$work/prompts.txt" --out "$work/cut" "$@"
    until_says "$log" 'parameters, mesh'
    sleep 0.5
    kill -TERM "$(last_rank)"
    ended
    verdict "$name" "$log" 'stopped by a signal in round [1-9] of '
    # a replica that the signal did not reach finishes its round
    found=$(find "$work/cut" -type f ! -name '*.mp4')
    for video in "$work"/cut/*.mp4; do
        [ ! -e "$video" ] || ffprobe -v error "$video" > /dev/null 2>&1 || found+=" $video"
    done
    if [ -z "$found" ]; then ok "${name}_and_leaves_nothing_half_made"
    else not_ok "${name}_and_leaves_nothing_half_made" "$found"; fi
}
stopped sampling_alone_stops 1
stopped replicas_stop 2
stopped tensor_ranks_stop 2 --tensor 2
stopped halves_of_guidance_stop 2 --guidance-ranks 2
stopped pipeline_stops 2 --pipeline 2 --batch 3
stopped pipeline_of_tensor_ranks_and_halves_stops 8 --pipeline 2 --tensor 2 --guidance-ranks 2

render --out "$work/all" && cp -a "$work/all" "$work/some" && rm "$work"/some/000[245]-*
render --out "$work/some" --skip-existing --batch 3
if diff -r "$work/all" "$work/some" > /dev/null; then ok what_is_missing_is_rendered_to_the_same_bytes
else not_ok what_is_missing_is_rendered_to_the_same_bytes "$(diff -rq "$work/all" "$work/some"; cat "$work/stderr")"; fi
touch "$work/before"
render --out "$work/some" --skip-existing
code=$?
if [ $code = 0 ] && [ -z "$(find "$work/some" -newer "$work/before")" ]; then ok nothing_is_rendered_when_all_is_there
else not_ok nothing_is_rendered_when_all_is_there "code $code: $(cat "$work/stderr")"; fi
for ((i = 1; i <= 7; i++)); do render --out "$work/shares" --share $i/7 || break; done
if diff -r "$work/all" "$work/shares" > /dev/null; then ok shares_make_the_whole
else not_ok shares_make_the_whole "$(diff -rq "$work/all" "$work/shares"; cat "$work/stderr")"; fi
sizes=1
for share in 0/2 3/2 2 a/b 1/ 1/2x; do
    refused "share_${share//\//_of_}_is_refused" 2 "--share $share: want I/N" infer --model "$run" --prompts "$work/prompts.txt" \
        --out "$work/no" --share "$share"
done
refused share_of_one_prompt_is_refused 2 'goes with --prompts' infer --model "$run" --prompt x --out "$work/no" --share 1/2
refused a_sheet_of_what_is_left_out_is_refused 2 'missing from --sheet' infer --model "$run" --prompts "$work/prompts.txt" \
    --out "$work/no" --skip-existing --sheet "$work/s.png"
