#!/bin/bash
# A rank that is stopped in the middle of training: every other rank names it in time, the job ends
# with code 4 and leaves nothing behind. A job that is suspended as a whole goes on.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok watchdog "no dataset"; exit 1; }
timeout_s=2

# start RANKS RUN KEY=VALUE...: a training run under way, its sixth step done. $limit, $job and
# ${pids[@]} of it, ${segments[@]} the files in /dev/shm that it talks through
start() {
    local ranks=$1 run=$2
    shift 2
    timeout -k 5 100 mpirun -n "$ranks" "$ZOETROPE" "${small_train[@]}" run.dir="$run" train.steps=1000000 \
        checkpoint.every=0 comm.timeout_s=$timeout_s "$@" > "$run.log" 2>&1 < /dev/null &
    limit=$!
    for ((i = 0; i < 600; i++)); do
        [ "$(grep -c . "$run/metrics.jsonl" 2> /dev/null)" -ge 6 ] 2> /dev/null && break
        sleep 0.05
    done
    job=$(pgrep -P $limit -x mpirun)
    mapfile -t pids < <(pgrep -P "$job" -x zoetrope)
    mapfile -t segments < <(for pid in "${pids[@]}"; do cat "/proc/$pid/maps"; done | grep -o '/dev/shm/vader_segment[^ ]*' | sort -u)
}

# stopped RANKS WHICH KEY=VALUE...
stopped() {
    local ranks=$1 which=$2 run=$work/run_$1_$2 name=rank_${2}_of_$1 took code stopped_at lines left
    shift 2
    start "$ranks" "$run" "$@"
    stopped_at=$EPOCHREALTIME
    kill -STOP "${pids[$which]}"
    # when the last of the others has said it
    for ((i = 0; i < 400; i++)); do
        [ "$(grep -c "gives no sign of life" "$run.log")" -ge $((ranks - 1)) ] && break
        sleep 0.02
    done
    took=$(((${EPOCHREALTIME/./} - ${stopped_at/./}) / 1000))
    wait $limit
    code=$?
    lines=$(grep -a "^zoetrope: rank [0-9]*: rank $which (.*) gives no sign of life.* waited .* s for it in .* of the .* group .* at .*:[0-9]*, step [0-9]*" "$run.log" |
        sed -E 's/^zoetrope: (rank [0-9]*).*/\1/' | sort -u)
    echo "note: rank $which of $ranks stopped: named by all after $took ms, timeout $timeout_s s, code $code"
    grep -a -m 1 "^zoetrope: " "$run.log" | sed 's/^/    /'
    if [ "$(grep -c . <<< "$lines")" = $((ranks - 1)) ] && ! grep -qx "rank $which" <<< "$lines" &&
        ((took < (timeout_s + 2) * 1000)); then ok "every_other_rank_names_stopped_$name"
    else not_ok "every_other_rank_names_stopped_$name" "after $took ms: $(grep -a "^zoetrope: " "$run.log")"; fi
    if [ $code = 4 ]; then ok "code_is_4_when_${name}_is_stopped"
    else not_ok "code_is_4_when_${name}_is_stopped" "code $code"; fi
    left=$(find "${segments[@]}" "$TMPDIR"/ompi.* -maxdepth 0 2> /dev/null)
    pgrep -P "$job" > /dev/null && left+=" processes"
    if [ "${#segments[@]}" = "$ranks" ] && [ -z "$left" ]; then ok "nothing_stays_after_${name}_was_stopped"
    else not_ok "nothing_stays_after_${name}_was_stopped" "${#segments[@]} segments; $left"; fi
}

# suspended RANKS: all of them, longer than the timeout, as a cluster's scheduler does
suspended() {
    local run=$work/suspended step
    start "$1" "$run"
    kill -STOP "${pids[@]}"
    step=$(grep -c . "$run/metrics.jsonl")
    sleep $((timeout_s + 1))
    kill -CONT "${pids[@]}"
    for ((i = 0; i < 100; i++)); do
        [ "$(grep -c . "$run/metrics.jsonl")" -ge $((step + 20)) ] && break
        sleep 0.05
    done
    sleep 1
    kill -TERM "$job"
    wait $limit
    if [ "$(grep -c . "$run/metrics.jsonl")" -ge $((step + 20)) ] && ! grep -qa "^zoetrope: rank" "$run.log"; then
        ok "job_that_was_suspended_goes_on"
    else not_ok "job_that_was_suspended_goes_on" "$(tail -n 3 "$run.log")"; fi
}

# calls of a good job match: no check may stop it
train 4 "$work/checked" parallel.tensor=2 parallel.pipeline=2 train.warmup=0 train.steps=3 checkpoint.every=2 comm.check=true
code=$?
if [ $code = 0 ]; then ok checked_run_goes_well; else not_ok checked_run_goes_well "$(grep -a 'zoetrope:' "$work/checked.log")"; fi

stopped 4 2
stopped 4 0 parallel.tensor=2 parallel.pipeline=2
suspended 2
