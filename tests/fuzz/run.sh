#!/bin/bash
# Runs libFuzzer on each target named, from its corpus, and prints one line for each. Ends with an
# error when one found something: what it found lies in BUILD/findings/NAME.
#
#   BUILD=build/fuzz FUZZ_SECONDS=60 tests/fuzz/run.sh json manifest ...        (by way of make fuzz)
#
# What counts as a finding: a report of a sanitizer, a leak, an input that takes more than 5 s or
# more than 1 GiB, an allocation of more than 512 MiB, a broken promise (MUST of tests/fuzz/fuzz.h).
# The corpus in git is not changed; what a run adds is kept in BUILD/corpus and used by the next one.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build/fuzz}
seconds=${FUZZ_SECONDS:-60}
export ASAN_OPTIONS=quarantine_size_mb=16:allocator_may_return_null=1:malloc_context_size=40
export UBSAN_OPTIONS=print_stacktrace=1

# files that a target writes for each input belong in memory
memory=/dev/shm
[ -w $memory ] || memory=${TMPDIR:-/tmp}
scratch=$(mktemp -d "$memory/zt-fuzz-XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
# short stacks are fast ones, and end where HDF5 begins: its own losses are told by its name
{ cat tests/sanitize/leaks.supp && echo leak:libhdf5; } > "$scratch/leaks.supp"
export LSAN_OPTIONS=suppressions=$scratch/leaks.supp:print_suppressions=0

# last LOG NAME: a figure of libFuzzer's own account
last() { sed -n "s/^stat::$2: *//p" "$1" | tail -n 1; }

total=0
printf '%-16s %14s %10s %9s %9s %9s\n' target executions exec/s coverage 'peak MB' findings
for name in "$@"; do
    findings=$build/findings/$name
    mkdir -p "$build/corpus/$name" "$findings" "$scratch/$name"
    rm -f "$findings"/*
    log=$build/findings/$name.log
    options=(-max_total_time="$seconds" -max_len=4096 -timeout=5 -rss_limit_mb=1024
        -malloc_limit_mb=512 -print_final_stats=1 -verbosity=1 -artifact_prefix="$findings/")
    [ -f "tests/fuzz/$name.dict" ] && options+=(-dict="tests/fuzz/$name.dict")
    TMPDIR=$scratch/$name "$build/libfuzzer/fuzz_$name" "${options[@]}" \
        "$build/corpus/$name" "tests/fuzz/corpus/$name" > "$log" 2>&1
    code=$?
    found=$(find "$findings" -type f | wc -l)
    [ $code = 0 ] || [ "$found" != 0 ] || found=1
    total=$((total + found))
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf '%-16s %14s %10s %9s %9s %9d\n' "$name" "$(last "$log" number_of_executed_units)" \
        "$(last "$log" average_exec_per_sec)" "$coverage" "$(last "$log" peak_rss_mb)" "$found"
    if [ "$found" != 0 ]; then
        grep -m 1 -E 'ERROR: |runtime error|^tests/fuzz/|SUMMARY' "$log" | sed 's/^/    | /'
        echo "    | (all of it: $log)"
    fi
done
echo "$total findings in $# targets, $seconds s each"
[ $total = 0 ] && [ $# != 0 ]
