#!/bin/bash
# A rank killed with -9: the whole job ends, with a code, within ten seconds; the run goes on from its
# last committed checkpoint, and the next save clears what the killed one left.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok kill "no dataset"; exit 1; }

# the processes of the training run that $job, an mpirun, has started, by rank
ranks_of() { pgrep -P "$job" -x zoetrope; }

# killed RANKS WHICH KEY=VALUE...: kills one rank of a training run at step 6 or later
killed() {
    local ranks=$1 which=$2 run=$work/run_$1_$2 start took last
    shift 2
    local keys=("${small_train[@]}" run.dir="$run" train.steps=1000000 checkpoint.every=2 "$@")
    timeout -k 5 100 mpirun -n "$ranks" "$ZOETROPE" "${keys[@]}" > "$run.log" 2>&1 < /dev/null &
    local limit=$!
    for ((i = 0; i < 600; i++)); do
        [ -d "$run/checkpoints/step-00000006" ] && break
        sleep 0.05
    done
    job=$(pgrep -P $limit -x mpirun)
    start=$EPOCHREALTIME
    kill -9 "$(ranks_of | sed -n "$((which + 1))p")"
    wait $limit
    code=$?
    took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
    echo "    rank $which of $ranks killed: the job ended with code $code after $took ms"
    local name=rank_${which}_of_$ranks
    if [ $code != 0 ] && [ $code != 75 ] && [ $code != 124 ] && ((took < 10000)); then ok "job_ends_when_${name}_is_killed"
    else not_ok "job_ends_when_${name}_is_killed" "code $code after $took ms"; fi

    last=$(newest_checkpoint "$run")
    local step=$((10#${last#step-}))
    mkdir -p "$run/checkpoints/step-99999998.partial/transformer"
    timeout -k 5 60 mpirun -n "$ranks" "$ZOETROPE" "${keys[@]}" train.steps=$((step + 2)) > "$run.again" 2>&1
    code=$?
    if [ $code = 0 ] && grep -q "resumed from $run/checkpoints/$last: step $step" "$run.again" &&
        [ "$(column "$run" step | sort -n | uniq | wc -l)" = $((step + 2)) ]; then ok "run_goes_on_after_${name}_was_killed"
    else not_ok "run_goes_on_after_${name}_was_killed" "code $code, $last: $(grep -a 'zoetrope:\|resumed' "$run.again")"; fi
    last=$(find "$run" -name '*.tmp' -o -name '*.partial' -o -name '*.old' | head -n 3)
    if [ -z "$last" ]; then ok "nothing_half_made_stays_after_${name}"
    else not_ok "nothing_half_made_stays_after_${name}" "$last"; fi
}

killed 2 0
killed 2 1 parallel.tensor=2
killed 4 2 parallel.tensor=2 parallel.pipeline=2
killed 4 1 data.batch=4 data.micro_batch=1
