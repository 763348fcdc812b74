#!/bin/bash
# The batch scripts where Slurm is slow, silent or asked twice: with stand-ins for its commands and for
# the program, in seconds and without a cluster. tests/slurm has the real ones.
# shellcheck disable=SC2016 # conditions are expressions that `check` evaluates
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"

# stand_in NAME: a command of that name, from standard input
stand_in() {
    { echo '#!/bin/bash'; cat; } > "$work/bin/$1"
    chmod +x "$work/bin/$1"
}
# $SILENT: so many questions about its state the controller leaves unanswered; $ENDS: when the job ends
stand_in squeue << 'END_OF_FILE'
case $* in
*%e*) [ -z "$ENDS" ] || echo "$ENDS" ;;
*%T*)
    asked=$(cat "$WORK/asked" 2> /dev/null || echo 0)
    echo $((asked + 1)) > "$WORK/asked"
    ((asked < SILENT)) && exit 1
    echo RUNNING
    ;;
esac
END_OF_FILE
stand_in scontrol << 'END_OF_FILE'
case $1 in
requeue) echo requeued > "$WORK/requeued"; kill -KILL $PPID ;;
show) if [ "$2" = hostnames ]; then printf '%s\n' node1 node2; else echo PreemptTime=None; fi ;;
esac
END_OF_FILE
# $LOST: a node that starts nothing
stand_in srun << 'END_OF_FILE'
node="$LOST"
while [[ ${1:-} = --* ]]; do
    [[ $1 != --nodelist=* ]] || node=${1#*=}
    shift
done
[ "$1" = true ] && [ -n "$LOST" ] && [ "$node" = "$LOST" ] && exit 1
exec "$@"
END_OF_FILE
# A first USR1 asks it to end, a second one ends it, as core/base/stop.h says. $DOES: what ranks do.
stand_in program << 'END_OF_FILE'
case "$*" in
*--print-config*) printf 'run:\n  dir: %s\n' "$WORK/run"; exit ;;
plan* | *--help) exit ;;
esac
echo "arguments $*, end of the job: ${SLURM_JOB_END_TIME-not known}" >&2
case $DOES in
starting) echo loads its libraries >&2; exec sleep 30 ;;
fails) exit 3 ;;
ends) exit 0 ;;
esac
asked=""
trap 'asked=1; trap - USR1' USR1
echo trains >&2
while [ -z "$asked" ]; do sleep 0.05; done
echo saves >&2
sleep 1
exit 75
END_OF_FILE

# begin SCRIPT ARGUMENT...: in the background; its process in `job`
begin() {
    rm -f "$work/asked" "$work/requeued" "$work/log"
    rm -rf "$work/run"
    env PATH="$work/bin:$PATH" WORK="$work" DOES="${does:-trains}" LOST="${lost:-}" SILENT="${silent:-0}" ENDS="${ends:-}" \
        ZOETROPE_HOME="$PWD" ZOETROPE="$work/bin/program" ZOETROPE_NODE_TIMEOUT=3 SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=2 \
        SLURM_JOB_NODELIST='node[1-2]' SLURM_RESTART_COUNT="${restarts:-0}" "${array[@]}" bash "$@" > "$work/log" 2>&1 &
    job=$!
}
until_says() {
    local i
    for ((i = 0; i < 200; i++)); do
        grep -qs -- "$1" "$work/log" && return
        sleep 0.05
    done
}
says() { grep -q -- "$1" "$work/log"; }
requeued() { [ -e "$work/requeued" ]; }
# check NAME CONDITION...: when the job has ended, its code in `code`
check() {
    local name=$1 condition
    shift
    wait $job 2> /dev/null
    code=$?
    for condition in "$@"; do
        eval "$condition" && continue
        echo "not ok $name: $condition (code $code: $(tail -n 2 "$work/log" | tr '\n' ' '))"
        return
    done
    echo "ok $name"
}
array=()

# its time is over while it saves: one signal is all that the ranks may get
begin slurm/train.sbatch c.yaml
until_says trains
kill -USR1 $job
until_says saves
kill -USR1 $job
kill -TERM $job
check ranks_are_signalled_once '[ $code = 75 ]' 'says "ends with code 75"' '! requeued'

does=starting begin slurm/train.sbatch c.yaml
until_says 'loads its libraries'
kill -USR1 $job
check a_signal_before_ranks_listen_brings_the_job_back 'requeued' 'says "code 75: requeue"'

silent=2 begin slurm/train.sbatch c.yaml
until_says trains
kill -USR1 $job
check a_silent_controller_is_asked_again requeued

does=ends begin slurm/train.sbatch c.yaml
check no_answer_is_no_end_of_the_job '[ $code = 0 ]' 'says "end of the job: not known"'
does=ends ends=2031-02-03T04:05:06 begin slurm/train.sbatch c.yaml
check the_end_of_the_job_is_passed_on '[ $code = 0 ]' "says 'end of the job: $(date -d 2031-02-03T04:05:06 +%s)'"

lost=node2 does=fails begin slurm/train.sbatch c.yaml
check a_node_that_is_lost_brings_the_job_back 'requeued' 'says "code 3, and node2 does not answer: requeue"'
restarts=1 lost=node2 does=fails begin slurm/train.sbatch c.yaml
check a_node_left_out_from_the_start_does_not '[ $code = 3 ]' 'says "without node2"' '! requeued'

# task MINIMUM MAXIMUM STEP COUNT I: of an array
task() {
    array=(SLURM_ARRAY_JOB_ID=6 SLURM_ARRAY_TASK_MIN="$1" SLURM_ARRAY_TASK_MAX="$2" SLURM_ARRAY_TASK_STEP="$3"
        SLURM_ARRAY_TASK_COUNT="$4" SLURM_ARRAY_TASK_ID="$5")
    does=ends begin slurm/infer.sbatch --prompts p.txt --out "$work/videos"
}
task 2 8 3 3 8
check each_task_of_an_array_has_its_share '[ $code = 0 ]' 'says "--share 3/3,"'
task 1 7 1 3 1
check an_array_with_gaps_is_refused '[ $code = 2 ]' 'says "^zoetrope: --array: "'
task 1 7 3 3 3
check a_task_between_two_places_is_refused '[ $code = 2 ]' 'says "^zoetrope: --array: "'
