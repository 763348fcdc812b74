#!/bin/bash
# Runs test programs and scripts, one line each, and ends with "N passed, M failed".
#
#   BUILD=build tests/run.sh tests/unit/test_rng.c tests/mpi/test_group.c tests/e2e/first.sh ...
#
# RANKS="2" leaves out the other sizes. SANITIZE=thread or address,undefined: how programs were built.
#
# A cmocka program counts one for each of its tests; under mpirun a test passes when it passes on
# every rank, and a program runs once for each size in its `ranks:` line. A script prints `ok NAME`
# or `not ok NAME: why`. A line `note: ...` of either is shown: what was measured. A crash, a timeout
# (300 s, or what a script's `# limit_s:` line says) or a program without results counts as one failure.
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
[[ $build = /* ]] || build=$PWD/$build
logs=$build/tests/logs
mkdir -p "$logs"
limit_s=300
export LC_ALL=C # one order of names, one decimal point

# every rank count on any machine, also as root in a container, on one host
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader
# idle threads of many ranks would spin on few cores
export OMP_WAIT_POLICY=passive
export ZOETROPE=$build/zoetrope
by_line=(stdbuf -oL)
case ${SANITIZE:-} in
address*)
    # a refused allocation is NULL, as without the sanitizer; whole stacks, as leaks.supp names libraries
    export ASAN_OPTIONS=fast_unwind_on_malloc=0:malloc_context_size=40:allocator_may_return_null=1
    export LSAN_OPTIONS=suppressions=$PWD/tests/sanitize/leaks.supp:print_suppressions=0
    export UBSAN_OPTIONS=print_stacktrace=1
    ;;
thread)
    # the first race ends the program: ranks that end by MPI_Abort would not fail at exit. Not
    # ignore_noninstrumented_modules: on Linux it hides every memcpy, ours too. The longest history: races.supp
    # excuses by a stack, which must not be forgotten (without it test_traffic failed 6 times of 6)
    TSAN_OPTIONS=halt_on_error=1:allocator_may_return_null=1:history_size=7
    export TSAN_OPTIONS+=:suppressions=$PWD/tests/sanitize/races.supp
    # oneDNN's own loops
    export OMP_NUM_THREADS=1
    ;;
esac
if [ -n "${SANITIZE:-}" ]; then
    # stdbuf preloads a library before the sanitizer's
    by_line=()
fi

scratch=$(mktemp -d) || exit 1
# what one script makes and others copy
export SHARED=$scratch/shared
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

passed=0 failed=0

# count LOG CODE SECONDS: adds what the log says; explains in `why`
count() {
    local log=$1 code=$2 seconds=$3 good bad
    # without the rank tags of mpirun; a test counts once, on rank 0, unless a rank failed it
    bad=$(sed -nE 's/^(\[[0-9]+,[0-9]+\]<std[a-z]+>:)?//
                   s/^\[  FAILED  \] ([^ ]+)$/\1/p; s/^not ok ([^:]+).*/\1/p' "$log" | sort -u)
    good=$(sed -nE '/^\[[0-9]+,[1-9][0-9]*\]/d; s/^(\[[0-9]+,0\]<std[a-z]+>:)?//
                    s/^\[       OK \] ([^ ]+)$/\1/p; s/^ok (.+)$/\1/p' "$log" |
        sort | comm -23 - <(echo "$bad") | grep -c .)
    bad=$(echo "$bad" | grep -c .)
    why=""
    if [ "$code" -ne 0 ] && [ "$seconds" -ge "$limit_s" ]; then
        why="stopped after $limit_s s" bad=$((bad + 1))
    elif [ "$code" -ne 0 ] && [ "$bad" = 0 ]; then
        why="ended with code $code" bad=1
    elif [ "$good" = 0 ] && [ "$bad" = 0 ]; then
        why="no results" bad=1
    fi
    passed=$((passed + good)) failed=$((failed + bad))
    results="$good passed"
    ((bad)) && results+=", $bad failed"
}

# run NAME COMMAND...: one line, and the end of the log when something failed
run() {
    local name=$1 log before=$failed start=$EPOCHREALTIME code took
    shift
    log=$logs/$(echo "$name" | tr ' /' '_-').log
    mkdir "$scratch/tmp"
    TMPDIR=$scratch/tmp timeout --kill-after=10 "$limit_s" "$@" > "$log" 2>&1 < /dev/null
    code=$?
    rm -rf "$scratch/tmp"
    took=$(((${EPOCHREALTIME/./} - ${start/./}) / 10000))
    count "$log" "$code" $((took / 100))
    printf '%-44s %4d.%02d s  %s%s\n' "$name" $((took / 100)) $((took % 100)) "$results" \
        "${why:+ ($why)}"
    # what a test measured
    sed -nE 's/^(\[[0-9]+,0\]<std[a-z]+>:)?note: /    /p' "$log"
    if ((failed > before)); then
        tail -n 60 "$log" | sed 's/^/    | /'
        echo "    | (all of it: $log)"
    fi
}

# sizes_of FILE: those of its `ranks:` line, or of RANKS and that line
sizes_of() {
    local n found
    found=$(sed -n 's|.*/\* ranks: \([0-9 ]*\)\*/.*|\1|p' "$1" | head -n 1)
    for n in ${found:-missing}; do
        [[ -z ${RANKS:-} || $n = missing || " $RANKS " = *" $n "* ]] && echo "$n"
    done
}

for file in "$@"; do
    name=${file#tests/}
    name=${name%.*}
    program=$build/tests/$name
    case $file in
    *.sh)
        limit_s=$(sed -n 's/^# limit_s: \([0-9]*\)$/\1/p' "$file" | head -n 1)
        limit_s=${limit_s:-300}
        run "$name" bash "$file"
        limit_s=300
        ;;
    tests/mpi/*)
        sizes=$(sizes_of "$file")
        [ -n "$sizes" ] || printf '%-44s   left out: not for %s ranks\n' "$name" "$RANKS"
        for n in $sizes; do
            OMP_NUM_THREADS=1 run "$name, $n ranks" \
                mpirun --tag-output -n "$n" "${by_line[@]}" "$program"
        done
        ;;
    *) run "$name" "${by_line[@]}" "$program" ;;
    esac
done

[ $# = 0 ] && echo "no test file has that name"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed != 0 ]
