#!/bin/bash
# limit_s: 14400
# One of four ranks killed with -9 at a random moment, KILLS times, moments and ranks drawn from SEED, a
# checkpoint every 5 steps: no committed checkpoint is lost, the job ends by itself, the next start needs
# nobody, and the losses are, bit for bit, those of a run that nobody disturbed.
set -u
# shellcheck source=tests/e2e/chaos_support.sh
. tests/e2e/chaos_support.sh
make_dataset || { not_ok kill_random "no dataset"; exit 1; }
kills=${KILLS:-50} seed=${SEED:-1}
RANDOM=$seed
keep=2 job_limit_s=120
# short steps and 14 MB of state, so that a save takes a third of the time
keys=("${small_train[@]}" train.schedule=constant checkpoint.every=5 checkpoint.keep="$keep"
    parallel.data=2 parallel.tensor=2 data.batch=2 data.micro_batch=1 text.max_length=16
    model.attention_head_dim=48 model.ffn_dim=1024)
# what is killed leaves the page cache alone: flushing to a disk would only make saves longer than steps
place=$work
if [ -w /dev/shm ] && (($(df --output=avail -m /dev/shm | tail -n 1) > 200)); then
    place=$(mktemp -d /dev/shm/zoetrope_kill.XXXXXX)
    trap 'rm -rf "$work" "$place"' EXIT
fi

# go RUN STEPS KEY=VALUE...: a run that nobody disturbs
go() {
    local to=$1 steps=$2
    shift 2
    timeout -k 5 600 mpirun -n 4 "$ZOETROPE" "${keys[@]}" run.dir="$to" train.steps="$steps" "$@" > "$to.log" 2>&1 < /dev/null
}

run=$place/run log=$place/run.log
# five steps and their save, in microseconds: from the pace of the last kills, as machines do other things
pace_us=400000 pace_steps=10
hits=0 in_saves=0 alone=0 slowest_ms=0 newest=0 tries=0
lost="" left="" returned="" # the first thing that went wrong of each kind
seen=$work/seen
: > "$seen"
while ((hits < kills)); do
    tries=$((tries + 1))
    # Open MPI leaves the other ranks two seconds after its SIGTERM: every fourth time here, too
    export OMPI_MCA_odls_base_sigkill_timeout=$((tries % 4 == 0))
    begin_job mpirun -n 4 "$ZOETROPE" "${keys[@]}" run.dir="$run" train.steps=1000000
    if ! await_step; then
        returned="start $tries: $(grep -a 'zoetrope:' "$log" | head -n 1) $(tail -n 1 "$log")"
        end_job
        break
    fi
    returned=$(came_back)
    [ -z "$returned" ] || { end_job; break; }
    from=$newest
    find_ranks
    # in the time of the next ten steps and their two saves: every second kill comes before a commit
    draw 0 $((10 * pace_us / pace_steps))
    delay=$drawn
    draw 0 3
    victim=${ranks[$drawn]:-}
    first=$(wc -l < "$run/metrics.jsonl")
    now_us
    stepped=$now
    nap "$((delay / 1000000)).$(printf %06d $((delay % 1000000)))"
    remember
    if [ -z "$victim" ] || ! kill -9 "$victim" 2> /dev/null; then
        # it ended before: no kill, try again and sooner
        pace_us=$((pace_us / 2 + 1))
        alone=$((alone + 1))
        end_job
        look
        ((alone <= 3)) || { left="$alone jobs ended before the kill: $(tail -n 1 "$log")"; break; }
        continue
    fi
    now_us
    killed=$now
    await_end
    hits=$((hits + 1))
    ((took_ms > slowest_ms)) && slowest_ms=$took_ms
    compgen -G "$run/checkpoints/*.partial" > /dev/null && in_saves=$((in_saves + 1))
    if ((took_ms > end_limit_s * 1000 || orphans > 0)) || [[ " 0 75 124 " = *" $code "* ]]; then
        left="kill $hits: code $code after $took_ms ms, $orphans ranks left"
        break
    fi
    lost=$(missing)
    [ -z "$lost" ] || { lost="kill $hits: $lost"; break; }
    # what was committed in the last instant counts from now on
    look
    ((hits % 25)) || echo "    $hits kills, $in_saves in a save, newest step $newest"
    series "$run/metrics.jsonl" | awk -v from="$from" '$1 > from' > "$work/new"
    cat "$work/new" >> "$seen"
    pace_us=$((pace_us * 7 / 8 + killed - stepped))
    pace_steps=$((pace_steps * 7 / 8 + $(wc -l < "$run/metrics.jsonl") - first + 1))
done

unset OMPI_MCA_odls_base_sigkill_timeout

# the last start, and the whole without kills
last=$newest
steps=$((last + 2))
whole=$place/whole
go "$run" $steps
code=$?
[ -n "$returned" ] || returned=$(came_back)
[ $code = 0 ] || returned+=" code $code: $(tail -n 1 "$log")"
go "$whole" $steps checkpoint.every=0
series "$whole/metrics.jsonl" > "$work/want"
series "$run/metrics.jsonl" > "$work/got"
# steps beyond the last one that was kept have nothing to compare with
awk -v steps=$steps '$1 <= steps' "$seen" > "$work/all"
repeated=$(($(wc -l < "$work/all") - last))
differ=$(awk 'NR == FNR { want[$1] = $2; next } want[$1] != $2 { print "step " $1 ": " $2 ", not " want[$1]; exit }' \
    "$work/want" <(cat "$work/got" "$work/all"))
[ "$(wc -l < "$work/want")" = $steps ] && [ "$(wc -l < "$work/got")" = $steps ] ||
    differ="$(wc -l < "$work/got") of $steps steps in metrics, $(wc -l < "$work/want") in those of the whole"
half=$(find "$run" -name '*.tmp' -o -name '*.partial' -o -name '*.old' | head -n 1)
share=$((100 * in_saves / (hits > 0 ? hits : 1)))
few=""
((hits == kills)) || few="$hits of $kills kills"

echo "note: seed $seed: $hits kills, $in_saves in a save ($share %), over $steps steps, $repeated of them trained again; slowest end $slowest_ms ms"
row "kills at random moments, 4 ranks, seed $seed" "$hits"
promise no_committed_checkpoint_is_lost "committed checkpoints lost or changed" "$([ -z "$lost" ] && echo 0 || echo some)" 0 "$lost"
promise every_job_ends_with_a_code "slowest end of a job that lost a rank" "$slowest_ms ms" "< $((end_limit_s * 1000)) ms" "$left"
promise every_start_goes_on_by_itself "starts that went on by themselves" "$((tries - alone))" "$((tries - alone))" "$returned$few"
promise losses_are_those_of_a_run_left_alone "loss_hex of $steps steps, $repeated more trained again" "$([ -z "$differ" ] && echo identical || echo differ)" identical "$differ"
promise nothing_half_made_stays "half-made files at the end" "$([ -z "$half" ] && echo 0 || echo some)" 0 "$half"
# a third, within what chance does in 50 draws; fewer say nothing
few=""
((hits < 50 || (share >= 10 && share <= 90))) || few="$in_saves of $hits"
promise kills_hit_saves_and_steps "kills that hit a save" "$share %" "10 to 90 %" "$few"
