#!/bin/bash
# Two jobs on one run's folder: the second is refused and told who has it; a dead job keeps nobody out.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok lock "no dataset"; exit 1; }
run=$work/run
keys=("${small_train[@]}" run.dir="$run" checkpoint.every=2)

SLURM_JOB_ID=4711 "$ZOETROPE" "${keys[@]}" train.steps=1000000 > "$work/first" 2>&1 &
first=$!
for ((i = 0; i < 600; i++)); do
    [ -d "$run/checkpoints/step-00000002" ] && break
    sleep 0.05
done

# refused NAME COMMAND...: code 2, the holder's name, and the folder as it was
refused() {
    local name=$1 code
    shift
    timeout -k 5 60 "$@" "$ZOETROPE" "${keys[@]}" train.steps=3 train.lr=5e-4 > "$work/second" 2>&1
    code=$?
    if [ $code = 2 ] && grep -q "is in use by host $(hostname), job 4711, process $first;" "$work/second" &&
        ! grep -q "lr: 0.0005" "$run/config.yaml" && kill -0 $first; then ok "$name"
    else not_ok "$name" "code $code: $(tail -n 2 "$work/second")"; fi
}
refused second_job_is_refused_and_told_who_has_the_folder env
refused second_job_is_refused_on_every_rank mpirun -n 2

kill -9 $first
wait $first 2> /dev/null
last=$(newest_checkpoint "$run")
"$ZOETROPE" "${keys[@]}" train.steps=$((10#${last#step-} + 1)) > "$work/third" 2>&1
code=$?
if [ $code = 0 ] && grep -q "resumed from $run/checkpoints/$last" "$work/third" && [ ! -s "$run/lock" ]; then
    ok lock_of_a_dead_job_is_taken_over
else not_ok lock_of_a_dead_job_is_taken_over "code $code: $(tail -n 2 "$work/third")"; fi
