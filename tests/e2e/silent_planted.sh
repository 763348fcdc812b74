#!/bin/bash
# limit_s: 600
# Faults that say nothing are found and told apart. Programs with one planted (tests/planted/silent): a
# bit of one rank's weights is seen by the comparison of replicas, before a checkpoint has it; a step
# that one rank computes wrongly is computed again in exact numerics and the rank named; a clip that is
# no video makes the same bits twice and is said to be the data. Honest runs raise no alarm.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok silent_planted "no dataset"; exit 1; }
honest=$ZOETROPE
planted=$(dirname "$honest")/planted/silent
export PLANT_RANK PLANT_STEP PLANT_SAMPLE PLANT_VALUE
small_train+=(data.batch=8 train.steps=8 checkpoint.every=100 train.check_every=1 train.schedule=constant)

# fresh RANKS KEY=VALUE...: a run from its beginning
fresh() {
    local ranks=$1
    shift
    rm -rf "$work/run"
    attempt "$ranks" "${small_train[@]}" "$@"
}

# alarms: what was said of faults in the last attempt
alarms() { grep -aE 'silent fault|computed again' "$work/stderr"; }

# everywhere RANKS PATTERN: whether each rank has said so, once
everywhere() { [ "$(alarms | grep -cE "$2")" = "$1" ] && [ "$(alarms | grep -c .)" = "$1" ]; }

# seen NAME RANKS PATTERN: the last attempt has ended with code 4, each rank saying that
seen() {
    alarms | head -n 1 | cut -c 1-300 | sed 's/^/    /'
    if [ "$code" = 4 ] && everywhere "$2" "$3"; then ok "$1"
    else not_ok "$1" "code $code, wanted on $2 ranks '$3': $(alarms | head -n 4) $(tail -n 2 "$work/stderr")"; fi
}

whys=""
for numerics in fast exact; do
    for mesh in "1" "2 data=2" "2 data=2 zero=0" "3 data=3" "2 context=2 ulysses=1" "4 data=2 tensor=2" \
        "4 data=2 context=2 zero=0" "4 data=2 pipeline=2"; do
        read -r ranks keys <<< "$mesh"
        [ "$numerics" = exact ] && [ "$ranks" = 3 ] && continue
        args=("numerics=$numerics")
        for key in $keys; do args+=("parallel.$key"); done
        fresh "$ranks" "${args[@]}"
        [ "$code" = 0 ] && [ -z "$(alarms)" ] || whys+="$numerics $mesh: code $code $(alarms) $(tail -n 1 "$work/stderr"); "
    done
done
if [ -z "$whys" ]; then ok honest_runs_raise_no_alarm; else not_ok honest_runs_raise_no_alarm "$whys"; fi

# ---- a bit of the weights ----

ZOETROPE=$planted/weight_bit PLANT_STEP=3
differ='should be the same bits and are not, and no majority'
minority='are not the bits that most of their replicas hold'
PLANT_RANK=1 fresh 2 parallel.data=2
seen of_two_replicas_both_are_named 2 "step 3: weights of rank 0 \(.*\), rank 1 \(.*\) $differ"
PLANT_RANK=2 fresh 4 parallel.data=4
seen odd_one_of_four_replicas_is_named 4 "step 3: weights of rank 2 \([^,]*\) $minority"
PLANT_RANK=0 fresh 3 parallel.data=3 parallel.zero=0
seen odd_one_may_be_the_first_rank 3 "step 3: weights of rank 0 \([^,]*\) $minority"
PLANT_RANK=1 fresh 2 parallel.context=2
seen context_ranks_are_replicas 2 "step 3: weights of rank 0 \(.*\), rank 1 \(.*\) $differ"
PLANT_RANK=3 fresh 4 parallel.data=2 parallel.context=2 numerics=exact
seen odd_one_of_data_and_context_is_named 4 "step 3: weights of rank 3 \([^,]*\) $minority"
PLANT_RANK=3 fresh 4 parallel.data=2 parallel.tensor=2
seen tensor_ranks_are_compared_with_their_likes 4 "step 3: weights of rank 1 \(.*\), rank 3 \(.*\) $differ"
PLANT_RANK=2 fresh 4 parallel.data=2 parallel.pipeline=2
seen stages_are_compared_with_their_likes 4 "step 3: weights of rank 2 \(.*\), rank 3 \(.*\) $differ"
# every rank has its own moments here, and what has drifted apart stays apart
PLANT_RANK=1 fresh 4 parallel.data=4 parallel.zero=0 train.check_every=6
seen a_bit_is_found_steps_later 4 "step 6: weights of rank 1 \([^,]*\) $minority"

# no comparison is due, but a checkpoint is; the honest program goes on from the one before
ZOETROPE=$honest fresh 2 parallel.data=2
want=$(column "$work/run" loss_hex)
PLANT_STEP=4 PLANT_RANK=1 fresh 2 parallel.data=2 train.check_every=100 checkpoint.every=2
seen checkpoint_is_not_written 2 "step 4: weights of .* $differ"
last=$(newest_checkpoint "$work/run")
ZOETROPE=$honest attempt 2 "${small_train[@]}" parallel.data=2
if [ "$last" = step-00000002 ] && [ "$code" = 0 ] && [ -n "$want" ] && [ "$(column "$work/run" loss_hex)" = "$want" ]; then
    ok run_goes_on_from_the_checkpoint_before
else not_ok run_goes_on_from_the_checkpoint_before "$last, code $code: $said"; fi
PLANT_RANK=1 PLANT_STEP=3 fresh 2 parallel.data=2 train.check_every=0
if [ "$code" = 0 ] && [ -z "$(alarms)" ]; then ok nothing_is_compared_with_check_every_0
else not_ok nothing_is_compared_with_check_every_0 "code $code: $(alarms)"; fi

# ---- a step that is computed wrongly ----

ZOETROPE=$planted/wrong_step PLANT_STEP=6
again='step 6: gradient norm .* times the median of 5 steps before; computed again, sums of'
PLANT_RANK=0 fresh 1 numerics=exact
seen wrong_step_is_hardware_on_1_rank 1 "$again rank 0 \([^,]*\) came out"
PLANT_RANK=1 fresh 2 numerics=exact parallel.data=2
seen wrong_replica_is_named 2 "$again rank 1 \([^,]*\) came out"
PLANT_RANK=3 fresh 4 numerics=exact parallel.data=2 parallel.tensor=2
seen ranks_of_the_wrong_replica_are_named 4 "$again rank 2 \([^,]*\), rank 3 \([^,]*\) came out"
if [ ! -e "$work/run/checkpoints/step-00000006" ] && [ "$(column "$work/run" step | tail -n 1)" = 5 ]; then ok wrong_step_is_not_used
else not_ok wrong_step_is_not_used "$(column "$work/run" step | tail -n 1) steps"; fi

# ---- a clip that is no video ----

ZOETROPE=$planted/bad_clip PLANT_SAMPLE=43 # of step 6
for PLANT_VALUE in nan 1e6; do
    why="the loss is not finite"
    [ $PLANT_VALUE = nan ] || why='gradient norm .* times the median of 5 steps before'
    want=""
    for mesh in 1 "2 data=2" "2 context=2" "2 pipeline=2"; do
        read -r ranks keys <<< "$mesh"
        name=${PLANT_VALUE}_in_a_clip_is_data_on_${mesh//[ =]/_}
        fresh "$ranks" numerics=exact "parallel.${keys:-data=1}"
        losses=$(column "$work/run" loss_hex)
        [ "$mesh" = 1 ] && want=$losses
        alarms | head -n 1 | cut -c 1-300 | sed 's/^/    /'
        if [ "$code" = 0 ] && everywhere 1 "^warning: step 6: $why; computed again, every bit is the same: .*; of its 8 clips .*shard-00000.h5: clip [0-9]*, from .* has the largest loss"
        then ok "$name"; else not_ok "$name" "code $code: $(alarms) $said"; fi
        [ -n "$losses" ] && [ "$losses" = "$want" ] || not_ok "$name" "other losses than on one rank"
    done
done
