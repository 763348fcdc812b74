#!/bin/bash
# `zoetrope bench steps` and `bench loader`: a row for every work on every cut, and clips of a dataset.
# Times are not judged here: docs/benchmarks.md has those.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
make_dataset || { not_ok bench "no dataset"; exit 1; }

# rows FILE TOKENS: that many of a training step have these tokens and numbers in every column
rows() {
    awk -v tokens="$2" '/training step/ { good = $6 == tokens; for (i = 7; i <= 10; i++) good = good && $i > 0; n += good }
        END { print n + 0 }' "$1"
}

for cut in "" "--tensor 2" "--pipeline 2" "--pipeline 2 --schedule zero_bubble"; do
    clips=$([ -z "$cut" ] && echo 32 || echo 16) # data ranks have their own
    # shellcheck disable=SC2086 # the cut is several words
    mpirun -n 2 "$ZOETROPE" bench --preset tiny --repeats 1 --micro-batches 2 $cut > "$work/out" 2> "$work/err" < /dev/null
    name=steps_are_measured_on_two_ranks${cut:+_$(tr -cs 'a-z0-9_' _ <<< "$cut" | sed 's/^_*//; s/_*$//')}
    if [ "$(rows "$work/out" $((clips * 80)))" = 1 ] && [ "$(grep -c 'denoise step' "$work/out")" = 1 ]; then ok "$name"
    else not_ok "$name" "$(cat "$work/out") $(tail -n 3 "$work/err")"; fi
done

# refuses NAME TEXT COMMAND...: code 2 and a line with TEXT in it
refuses() {
    local name=$1 text=$2
    shift 2
    "$@" > "$work/out" 2> "$work/err" < /dev/null
    local code=$?
    if [ $code = 2 ] && grep -q -- "$text" "$work/err"; then ok "$name"; else not_ok "$name" "code $code: $(cat "$work/err")"; fi
}

refuses a_cut_that_ranks_do_not_fill "tensor 3" mpirun -n 2 "$ZOETROPE" bench --preset tiny --tensor 3
refuses a_cut_that_heads_do_not_fill "does not divide num_attention_heads" mpirun -n 3 "$ZOETROPE" bench --preset tiny --tensor 3
refuses more_stages_than_layers "pipeline 2 is more than num_layers 1" mpirun -n 2 "$ZOETROPE" bench --preset block --pipeline 2
refuses a_cut_of_collectives "are for steps" mpirun -n 2 "$ZOETROPE" bench comm --tensor 2
refuses data_of_steps "--data is for loader" "$ZOETROPE" bench --data "$data"
refuses a_loader_without_a_dataset "--data DIR" "$ZOETROPE" bench loader
refuses a_loader_on_two_ranks "runs on one rank" mpirun -n 2 "$ZOETROPE" bench loader --data "$data"

"$ZOETROPE" bench loader --data "$data" --repeats 1 > "$work/out" 2> "$work/err"
if [ "$(awk '/^(loader, (cold|warm)|training step)/ && $3 > 0 && $4 > 0 && $5 > 0' "$work/out" | wc -l)" = 3 ]; then ok the_loader_is_measured
else not_ok the_loader_is_measured "$(cat "$work/out" "$work/err")"; fi
