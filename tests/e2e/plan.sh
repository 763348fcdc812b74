#!/bin/bash
# `zoetrope plan` says before a run what the run then says of itself; resident memory follows it.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
make_dataset || { not_ok plan "no dataset"; exit 1; }

# plan ARG...: $work/plan.out, $work/plan.err, $code
plan() { "$ZOETROPE" plan "$@" > "$work/plan.out" 2> "$work/plan.err"; code=$?; }
has() { grep -q -- "$1" "$work/plan.out"; }
# check NAME COMMAND...: ok when it succeeds
check() {
    local name=$1
    shift
    if "$@"; then ok "$name"; else not_ok "$name" "$(head -c 600 "$work/plan.out" "$work/plan.err" | tr '\n' ' ')"; fi
}
# table FILE: the line of JSON that has every rank's rows
table() { sed -nE 's/^ *("memory": \[\{.*\]),?$/\1/p' "$1"; }

# ---- a run and its plan --------------------------------------------------------------------------

# same RANKS KEY=VALUE...: whether RUN/memory.json is what plan --json says, clips from the dataset and from options
same() {
    local ranks=$1 run=$work/run-$RANDOM
    shift
    train "$ranks" "$run" train.steps=1 train.warmup=0 "$@" || { tail -n 3 "$run.log"; return 1; }
    table "$run/memory.json" > "$work/held"
    [ -s "$work/held" ] || return 1
    plan configs/tiny.yaml "data.train=$data" parallel.threads=1 --ranks "$ranks" --json "$@"
    table "$work/plan.out" > "$work/planned"
    cmp "$work/held" "$work/planned" || return 1
    plan configs/tiny.yaml data.train=/nowhere parallel.threads=1 --ranks "$ranks" --json --size 32x32 --frames 9 "$@"
    table "$work/plan.out" | cmp "$work/held" -
}
check one_rank_reserves_what_was_planned same 1 data.micro_batch=8
check two_stages_reserve_what_was_planned same 2 parallel.pipeline=2 model.num_layers=3
check four_ranks_reserve_what_was_planned same 4 parallel.tensor=2 parallel.context=2 parallel.recompute=elementwise
check chunks_of_stages_reserve_what_was_planned same 2 parallel.pipeline=2 parallel.schedule=interleaved \
    parallel.chunks_per_rank=2
check exact_numerics_reserve_what_was_planned same 2 parallel.pipeline=2 parallel.schedule=zero_bubble numerics=exact

# ---- resident ------------------------------------------------------------------------------------

# resident LAYERS: of a run with so many layers, peak and plan in MiB. Two runs differ in what is planned only: the
# libraries' share (code, oneDNN's packed matrices, HDF5's caches, MPI) is in both.
resident() {
    train 1 "$work/layers-$1" train.steps=2 train.warmup=0 data.micro_batch=8 "model.num_layers=$1"
    sed -nE 's/^memory resident at most ([0-9.]+) MiB .* ([0-9.]+) MiB planned$/\1 \2/p' "$work/layers-$1.log"
}
read -r small_peak small_plan <<< "$(resident 3)"
read -r large_peak large_plan <<< "$(resident 18)"
echo "note: planned ${small_plan:-?} and ${large_plan:-?} MiB, resident ${small_peak:-?} and ${large_peak:-?} MiB"
if awk -v a="$small_peak" -v b="$large_peak" -v p="$small_plan" -v q="$large_plan" \
    'BEGIN { r = (b - a) / (q - p); exit !(q - p > 200 && r > 0.95 && r < 1.05) }'; then
    ok resident_memory_grows_as_planned
else not_ok resident_memory_grows_as_planned "more than 5 % apart"; fi

# ---- what it says --------------------------------------------------------------------------------

plan configs/wan-14b-128gpu.yaml --gpus 128 --size 832x480 --frames 81 --memory 80
check large_jobs_are_planned_anywhere [ "$code" = 0 ]
check large_jobs_say_that_no_dataset_was_read has 'clips as the options say'
check what_does_not_fit_is_named has '^does not fit: .* the largest row is act_attention'
check a_recompute_mode_that_fits_is_named has '^would fit: parallel.recompute=elementwise'
check a_mesh_that_fits_is_named has '^would fit: parallel.data='
check at_most_twenty_meshes_are_shown [ "$(grep -cE '^[0-9]+x[0-9]+x[0-9]+x[0-9]+ ' "$work/plan.out")" = 20 ]

# hundreds of GiB, planned with 2 GB of addresses
(
    ulimit -v 2000000
    plan configs/wan-14b-128gpu.yaml --size 832x480 --frames 81 numerics=exact parallel.schedule=zero_bubble
    exit "$code"
)
check plans_reserve_nothing_of_what_they_count [ $? = 0 ]
check exact_sums_have_a_row has '^memory exact '
check queues_of_split_backwards_have_a_row has '^memory act_queue '

plan configs/tiny.yaml --ranks 4 --memory 0.01
check nothing_fits_is_said has '^nothing fits into 0.01 GiB a rank on 4 ranks'
check rows_of_other_meshes_are_named has 'does not fit: saving takes'

plan configs/tiny.yaml --json --memory 0.01
check json_says_when_it_does_not_fit has '"fits": *false'
plan configs/tiny.yaml --json --memory 10
check json_says_when_it_fits has '"fits": *true'

plan configs/tiny.yaml --schedule --svg "$work/s.svg" parallel.pipeline=2 data.micro_batch=2
check schedule_is_drawn_with_its_bubble has '^bubble 20.0 %$'
check schedule_has_a_row_a_rank has '^rank 1 .*F0 '
check schedule_is_drawn_as_svg grep -q '<svg' "$work/s.svg"

plan configs/tiny.yaml --ranks 6 parallel.tensor=3
if [ "$code" = 2 ] && grep -q 'tensor 3 does not divide' "$work/plan.err"; then ok a_mesh_that_is_not_legal_is_refused
else not_ok a_mesh_that_is_not_legal_is_refused "code $code"; fi
plan configs/tiny.yaml --size 60x64
if [ "$code" = 2 ] && grep -q 'multiples of 16' "$work/plan.err"; then ok a_size_that_is_no_multiple_is_refused
else not_ok a_size_that_is_no_multiple_is_refused "code $code"; fi
# refused NAME WORDS ARG...: options that contradict each other
refused() {
    local name=$1 words=$2
    shift 2
    plan configs/tiny.yaml "$@"
    if [ "$code" = 2 ] && grep -q -- "$words" "$work/plan.err"; then ok "$name"; else not_ok "$name" "code $code"; fi
}
refused ranks_and_gpus_are_one_number 'give one' --ranks 2 --gpus 4
refused a_drawing_is_not_json '--schedule draws text' --json --schedule
