#!/bin/bash
# A clip whose stored bytes are damaged is left out, named once and counted, by the same step on
# every mesh: in exact numerics the run has the same loss, bit for bit. Beyond data.max_bad the run
# ends with code 3.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok bad_clips "no dataset"; exit 1; }
whole=$work/whole
mv "$data" "$whole"
bytes=$(stat -c %s "$whole/shard-00000.h5")

# flip SHARE: changes one bit of $data at so many percent of the shard; latents are its end
flip() {
    local at=$((bytes * $1 / 100)) byte
    byte=$(od -An -t u1 -j $at -N 1 "$data/shard-00000.h5")
    printf %b "\\x$(printf %02x $((byte ^ 4)))" | dd of="$data/shard-00000.h5" bs=1 seek=$at conv=notrunc status=none
}
cp -r "$whole" "$data"
flip 70

# 24 clips, of which 2 may be damaged; 12 steps of 4 are two epochs: each clip comes twice
keys=(train.steps=12 checkpoint.every=100 numerics=exact data.max_bad=0.1)
# bad RUN: "STEP:COUNT" of the steps with bad clips
bad() { sed -nE 's/.*"step":([0-9]+).*"clips":3,"bad_clips":([0-9]+).*/\1:\2/p' "$1/metrics.jsonl" | tr '\n' ' '; }
# run NAME RANKS KEY=VALUE...: goes to its end, having named the clip once; $work/NAME is its folder
run() {
    local name=$1 ranks=$2
    shift 2
    attempt "$ranks" "${small_train[@]}" "${keys[@]}" run.dir="$work/$name" "$@"
    cp "$work/stderr" "$work/$name.stderr"
    if [ "$code" != 0 ]; then echo "code $code: $said"
    elif [ "$(grep -ca 'shard-00000.h5: clip [0-9]*, from .*\.mp4 at .*: damaged and left out, 1 so far; data.max_bad allows 2' "$work/stderr")" != 1 ]
    then echo "not named once: $(grep -a 'damaged' "$work/stderr" | head -n 3)"; fi
}
why=$(run one 1)
steps=$(bad "$work/one")
if [ -n "$why" ]; then not_ok damaged_clip_is_named_and_left_out "$why"
elif [ "$(wc -w <<< "$steps")" != 2 ]; then not_ok damaged_clip_is_named_and_left_out "steps with bad clips: $steps"
else
    echo "    $(grep -a 'left out' "$work/one.stderr" | cut -c 1-200)"
    ok damaged_clip_is_named_and_left_out
fi
whys=""
for mesh in "2 parallel.data=2" "2 parallel.tensor=2" "2 parallel.context=2" "2 parallel.pipeline=2" \
    "4 parallel.context=2 parallel.data=2" "4 parallel.pipeline=2 parallel.tensor=2"; do
    read -r ranks mesh_keys <<< "$mesh"
    name=${mesh_keys//[^a-z0-9]/_}
    # shellcheck disable=SC2086
    why=$(run "$name" "$ranks" $mesh_keys)
    [ "$(bad "$work/$name")" = "$steps" ] || why+=" steps with bad clips: $(bad "$work/$name")"
    [ "$(column "$work/$name" loss_hex)" = "$(column "$work/one" loss_hex)" ] || why+=" another loss"
    [ -z "$why" ] || whys+="$mesh: $why; "
done
if [ -z "$whys" ]; then ok every_mesh_leaves_out_the_same_bit_for_bit
else not_ok every_mesh_leaves_out_the_same_bit_for_bit "$whys"; fi

# stopped and resumed across it
keys+=(train.schedule=constant)
why=$(run steady 1)
attempt 1 "${small_train[@]}" "${keys[@]}" run.dir="$work/parts" train.steps=5
attempt 2 "${small_train[@]}" "${keys[@]}" run.dir="$work/parts" parallel.data=2
if [ -z "$why" ] && [ "$code" = 0 ] && [ "$(column "$work/parts" loss_hex)" = "$(column "$work/steady" loss_hex)" ]
then ok resumed_run_leaves_out_the_same
else not_ok resumed_run_leaves_out_the_same "$why code $code: $said"; fi

# every clip of a step damaged: no update, and on it goes
attempt 1 "${small_train[@]}" train.steps=24 checkpoint.every=100 data.batch=1 data.micro_batch=1 data.max_bad=0.1 run.dir="$work/single"
if [ "$code" = 0 ] && [ "$(grep -c '"clips":0,"bad_clips":1.*"skipped":true' "$work/single/metrics.jsonl")" = 1 ] &&
    [ "$(grep -ca 'skipped: every clip is damaged' "$work/stderr")" = 1 ]
then ok step_without_clips_updates_nothing
else not_ok step_without_clips_updates_nothing "code $code: $said $(grep bad_clips "$work/single/metrics.jsonl")"; fi

# asked to stop after each step: what is wrong with the next one's clips must not cost this step
for ((step = 1; step < ${steps%%:*}; step++)); do
    SLURM_JOB_END_TIME=1 attempt 1 "${small_train[@]}" "${keys[@]}" data.max_bad=0 run.dir="$work/asked"
    [ "$code" = 75 ] || break
done
if [ "$step" = "${steps%%:*}" ]; then ok stop_commits_the_step_before_bad_clips
else not_ok stop_commits_the_step_before_bad_clips "after step $step of ${steps%%:*}: code $code: $said"; fi

sizes="1 2"
refused strict_runs_end_at_the_first 3 'shard-00000.h5: clip*1 of 24 clips are damaged so far, data.max_bad 0 allows 0' \
    "${small_train[@]}" "${keys[@]}" data.max_bad=0
# too many of them: the run ends, but not before what it has is saved
attempt 1 "${small_train[@]}" "${keys[@]}" data.max_bad=0 run.dir="$work/too_many"
if [ "$code" = 3 ] && [ "$(newest_checkpoint "$work/too_many")" = "$(printf 'step-%08d' $((${steps%%:*} - 1)))" ]
then ok too_many_end_the_run_after_a_checkpoint
else not_ok too_many_end_the_run_after_a_checkpoint "code $code: $said, last $(newest_checkpoint "$work/too_many")"; fi

for share in 60 65 75 80 85 90 95; do flip $share; done
refused too_many_end_the_run 3 'shard-00000.h5: clip*3 of 24 clips are damaged so far, data.max_bad 0.1 allows 2' \
    "${small_train[@]}" "${keys[@]}"
