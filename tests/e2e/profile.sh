#!/bin/bash
# limit_s: 120
# `train.profile` and `train.trace`: a table whose rows add up to the step, and a timeline of every
# rank's ops, messages and pipeline slots; training goes on alike with and without them.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok profile "no dataset"; exit 1; }
trace=$work/trace.json

attempt 2 "${small_train[@]}" parallel.pipeline=2
losses=$(column "$work/run" loss)
rm -rf "$work/run"
attempt 2 "${small_train[@]}" parallel.pipeline=2 train.profile=true "train.trace=$trace"
if [ "$code" = 0 ] && [ "$(column "$work/run" loss)" = "$losses" ]; then ok a_profile_changes_no_loss
else not_ok a_profile_changes_no_loss "code $code: $said"; fi

table=$(sed -n '/^of a step/,/^steps/p' "$work/stderr")
# a row's ms stand before its share; the last row has those of the step
added=$(awk '/^steps/ { step = $3 } /%/ { for (i = 1; i <= NF; i++) if ($i ~ /%$/) { sum += $(i - 1); break } }
    END { print (step > 0 && sum > 0.98 * step && sum < 1.02 * step) ? 1 : 0 }' <<< "$table")
if [ "$added" = 1 ]; then ok the_rows_add_up_to_the_step; else not_ok the_rows_add_up_to_the_step "$table"; fi
if grep -Eq '^linear_backward_weight .* GFLOP/s +[0-9]+%' <<< "$table" && grep -Eq '^adamw .* GB/s +[0-9]+%' <<< "$table" &&
    grep -q '^receive ' <<< "$table"
then ok products_memory_and_messages_have_their_rows; else not_ok rows "$table"; fi

missing=""
for rank in 0 1; do
    for what in '"cat":"ops"' '"cat":"messages"' '"cat":"pipeline"'; do
        grep -q "$what,.*\"pid\":$rank," "$trace" || missing="$missing $what of rank $rank"
    done
done
if [ -z "$missing" ] && [ "$(head -n 1 "$trace")" = '{"traceEvents":[' ] && [ "$(tail -n 1 "$trace")" = ']}' ] &&
    ! grep -v '^{"name":.*},\{0,1\}$' "$trace" | grep -vqxF -e '{"traceEvents":[' -e ']}'
then ok the_timeline_has_every_rank; else not_ok the_timeline_has_every_rank "$missing"; fi
if [ "$(stat -c %a "$trace")" = 600 ]; then ok the_timeline_is_private; else not_ok the_timeline_is_private; fi

rm -rf "$work/run"
attempt 2 "${small_train[@]}" "train.trace=$work/nowhere/trace.json"
if [ "$code" = 3 ] && [ "$(grep -c . <<< "$said")" = 1 ] && [ "$(newest_checkpoint "$work/run")" = step-00000006 ]
then ok a_timeline_without_a_place_costs_no_checkpoint; else not_ok no_place "code $code: $said"; fi
