#!/bin/bash
# What `make chaos` runs: KILLS (500) kills at random moments, then SOAK_MINUTES (30) of faults of every
# kind and the same steps again without; 0 leaves one out. At the end one table of what was found, what
# was wanted and whether it held; the exit code says whether all of it did.
set -u
cd "$(dirname "$0")/../.." || exit 1
export KILLS=${KILLS:-500} SOAK_MINUTES=${SOAK_MINUTES:-30}
RESULTS=$(mktemp) || exit 1
export RESULTS
trap 'rm -f "$RESULTS"' EXIT

code=0
for part in "$KILLS tests/e2e/kill_random.sh" "$SOAK_MINUTES tests/chaos/soak.sh"; do
    [ "${part%% *}" = 0 ] || tests/run.sh "${part##* }" || code=1
done
echo
{
    printf 'what\tfound\twanted\theld\n'
    cat "$RESULTS"
} | awk -F '\t' '{ printf "    %-54s  %-18s  %-11s  %s\n", $1, $2, $3, $4 }' | sed 's/ *$//'
exit $code
