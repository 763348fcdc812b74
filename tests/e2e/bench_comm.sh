#!/bin/bash
# `zoetrope bench comm`: every collective in every size, and a step whose gradients are
# reduced under the backward beside one where they are reduced after it.
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh

mpirun -n 2 "$ZOETROPE" bench comm --preset tiny --repeats 3 > "$work/out" 2> "$work/err" < /dev/null
code=$?
rows=0
for name in all-reduce broadcast all-gather reduce-scatter all-to-all send/receive; do
    rows=$((rows + $(awk -v n=$name '$1 == n && NF == 6 && $4 > 0 && $5 > 0 && $6 > 0' "$work/out" | wc -l)))
done
if [ $code = 0 ] && [ $rows = 54 ]; then ok every_collective_is_measured
else not_ok every_collective_is_measured "code $code, $rows rows: $(tail -n 3 "$work/err")"; fi

read -r _ _ _ overlap after alone waited hidden auto < <(tail -n 1 "$work/out")
echo "note: step $overlap ms overlapped, $after ms not, reduction $alone ms alone, $waited ms waited for, $hidden hidden; training takes: $auto"
# not a measurement (docs/benchmarks.md has those): the best of three steps beside whatever else runs here, where only
# a reduction that stands in the backward's way shows
if below "$overlap" "$(awk -v t="$after" 'BEGIN { print 1.5 * t }')"; then ok overlap_does_not_block_the_step
else not_ok overlap_does_not_block_the_step "$overlap ms against $after ms"; fi

# two ranks with one thread each leave a third core free, or they do not
expected=after; [ "$(nproc)" -gt 2 ] && [ $(($(nproc) % 2)) = 1 ] && expected=overlap
if [ "$auto" = $expected ]; then ok overlap_only_where_a_core_is_free
else not_ok overlap_only_where_a_core_is_free "took $auto on $(nproc) cores"; fi

"$ZOETROPE" bench comm > "$work/out" 2> "$work/err"
code=$?
if [ $code = 2 ] && grep -q "needs two ranks" "$work/err"; then ok one_rank_has_nothing_to_measure
else not_ok one_rank_has_nothing_to_measure "code $code: $(cat "$work/err")"; fi
