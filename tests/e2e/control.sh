#!/bin/bash
# What the ranks of a run tell each other every step: steps that are not finite are skipped by all and
# end the run when they do not stop; the metrics name the slowest rank.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok control "no dataset"; exit 1; }

# diverge RANKS: weights grow a thousandfold a step until the loss overflows, with checkpoints due
# every second step
diverge() {
    local run=$work/run_$1 ranks=$1 finite all last
    attempt "$ranks" "${small_train[@]}" run.dir="$run" train.steps=60 train.max_skipped=4 train.lr=1 \
        train.weight_decay=1000 train.clip=0 train.schedule=constant
    all=$(column "$run" skipped | wc -l)
    finite=$(column "$run" skipped | grep -c false)
    last=$(newest_checkpoint "$run")
    echo "    $ranks ranks: $finite finite steps of $all, code $code: ${said:0:200}"
    if [ "$code" = 4 ] && [ "$finite" -gt 0 ] && [ "$all" = $((finite + 4)) ] &&
        [[ $said == *"steps $((finite + 1)) to $all: "*"not finite 4 times in a row"*"train.lr"* ]]; then
        ok "run_that_diverges_ends_on_${ranks}_ranks"
    else not_ok "run_that_diverges_ends_on_${ranks}_ranks" "code $code, $finite of $all: $said"; fi
    if ((10#${last#step-} <= finite)); then ok "nothing_is_saved_after_diverging_on_${ranks}_ranks"
    else not_ok "nothing_is_saved_after_diverging_on_${ranks}_ranks" "$last, $finite finite steps"; fi
}

# slowest: rank 1 of 2 is stopped for a while again and again, and works for most of a step
slowest() {
    local run=$work/slow job limit pids
    timeout -k 5 60 mpirun -n 2 "$ZOETROPE" "${small_train[@]}" run.dir="$run" train.steps=1000000 checkpoint.every=0 \
        data.batch=32 data.micro_batch=8 model.num_layers=8 model.ffn_dim=256 \
        > "$run.log" 2>&1 < /dev/null &
    limit=$!
    for ((i = 0; i < 600; i++)); do
        [ -s "$run/metrics.jsonl" ] && break
        sleep 0.05
    done
    job=$(pgrep -P $limit -x mpirun)
    mapfile -t pids < <(pgrep -P "$job" -x zoetrope)
    for ((i = 0; i < 8; i++)); do
        kill -STOP "${pids[1]}"
        sleep 0.6
        kill -CONT "${pids[1]}"
        sleep 0.1
    done
    kill -TERM "$job"
    wait $limit
    # a stop that met the rank while it waited for the other counts for neither
    slow=$(paste <(column "$run" slowest_rank) <(column "$run" slowest_s) | awk 'NR > 1 && $2 > 0.5 { n[$1]++ } END { print n[0] + 0, n[1] + 0 }')
    echo "    steps in which rank 0, rank 1 took more than 0.5 s: $slow"
    if [ "${slow% *}" = 0 ] && [ "${slow#* }" -gt 0 ]; then ok metrics_name_the_slowest_rank
    else not_ok metrics_name_the_slowest_rank "$slow"; fi
}

diverge 1
diverge 2
slowest
