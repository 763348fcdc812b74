# shellcheck shell=bash
# shellcheck disable=SC2154 # slurm/env.sh sets what a site changes
# Sourced by the batch scripts: starting ranks, passing signals on, coming back. Nothing for a site to
# change: that is slurm/env.sh.
#
#     job_begin                       what there is: nodes, ranks, threads
#     job_use NODES                   of those that there are
#     job_guard FILE MARK             ends the job when 3 restarts in a row have begun at the same MARK
#     job_run PROGRAM ARGUMENT...     on all ranks, in the way that works here; the code in `code`
#     job_end                         back into the queue, or the end with that code
#
# Arguments travel as arrays from sbatch to the ranks: no shell reads them on the way.

restarts=${SLURM_RESTART_COUNT:-0}
left_out=()   # nodes of the job that are not used
launcher=0    # process of srun or mpirun, while it is to be sent signals
asked=""      # TERM, or USR1, once this shell got one
passed_on=""  # once the launcher got USR1
interrupted=0
code=0

say() { echo "slurm: $*" >&2; }

# job_fail CODE TEXT: one line, and the end
job_fail() {
    echo "zoetrope: $2" >&2
    exit "$1"
}

# USR1: the time is nearly over. TERM: the end is wanted. Either way the ranks commit and end with 75.
# They are sent USR1: srun and mpirun pass that on, and at TERM kill what they have started. Once: a
# second USR1 would end them at once, in the middle of a checkpoint.
pass_on() {
    if [ -z "$asked" ] || [ -n "$passed_on" ] || ((launcher == 0)); then return; fi
    passed_on=1
    kill -USR1 "$launcher" 2> /dev/null
}

on_signal() {
    [ "$asked" = TERM ] || asked=$1
    interrupted=1
    pass_on
}

# wait_for PROCESS: its code in `code`. A signal ends `wait`, not the process: then it is asked again.
wait_for() {
    while :; do
        interrupted=0
        wait "$1"
        code=$?
        ((interrupted)) || return
    done
}

# What env.sh leaves open.
share_out() {
    if [ -z "$ranks_per_node" ]; then
        ranks_per_node=${SLURM_NTASKS_PER_NODE:-$((${SLURM_NTASKS:-0} / SLURM_JOB_NUM_NODES))}
        ((ranks_per_node > 0)) || ranks_per_node=${SLURM_GPUS_ON_NODE:-1}
    fi
    [ -n "$threads" ] || threads=${SLURM_CPUS_PER_TASK:-$((${SLURM_CPUS_ON_NODE:-1} / ranks_per_node))}
    ((threads > 0)) || threads=1
}

job_begin() {
    umask 077
    [ -n "${SLURM_JOB_ID:-}" ] || job_fail 2 "$0: is a Slurm job: start it with sbatch"
    # one task of an array: by the plain number Slurm may understand all of them
    me=${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    me=${me:-$SLURM_JOB_ID}
    trap 'on_signal USR1' USR1
    trap 'on_signal TERM' TERM
    [ -x "$zoetrope" ] || job_fail 2 "$zoetrope: no such program: build it with make, or say in slurm/env.sh where it is"
    nodes=$SLURM_JOB_NUM_NODES
    if ((restarts > 0)); then leave_out_lost; fi
    share_out
    ranks=$((nodes * ranks_per_node))
    # What run.time_limit: auto reads. Older Slurm (22.05) does not say it, and lets through that of a job
    # from which this one was submitted.
    local end
    end=$(env -u SLURM_TIME_FORMAT squeue -h -j "$me" -o %e 2> /dev/null)
    # no answer is no end: `date` would take it for the beginning of the day
    [ -z "$end" ] || end=$(date -d "$end" +%s 2> /dev/null)
    if [ -n "$end" ]; then export SLURM_JOB_END_TIME=$end; else unset SLURM_JOB_END_TIME; fi
    say "job $me, restart $restarts: $ranks ranks of $threads threads on $SLURM_JOB_NODELIST${left_out[0]:+ without ${left_out[*]}}"
}

job_use() {
    nodes=$1
    ranks=$((nodes * ranks_per_node))
    say "$nodes nodes are used: $ranks ranks"
}

# ---- nodes ----

# step OPTION... COMMAND: one step without MPI, in time
step() { timeout -k 5 "$node_timeout" srun --mpi=none --overlap --quiet "$@" < /dev/null 2> /dev/null; }

# lost_nodes: the nodes of the job that start nothing, one a line
lost_nodes() {
    local node
    step --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 true && return
    for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
        { step --nodes=1 --ntasks=1 --nodelist="$node" true || echo "$node"; } &
    done
    wait
}

# A node that is lost while Slurm takes it for well: the others go on without it.
leave_out_lost() {
    local k
    # A step whose node was lost can leave its socket behind for a minute and a half, under the numbers
    # of job and step (seen with Slurm 22.05). A requeued job counts its steps from 0 again: it must not
    # come to the same number.
    for ((k = 0; k < 2 * (restarts % 4); k++)); do step --nodes=1 --ntasks=1 true; done
    mapfile -t left_out < <(lost_nodes)
    nodes=$((nodes - ${#left_out[@]}))
    ((nodes > 0)) || job_fail 4 "no node of $SLURM_JOB_NODELIST starts anything: look at them with sinfo, and submit the job again"
}

# ---- ranks ----

is_left_out() { [[ " ${left_out[*]} " = *" $1 "* ]]; }

# hosts_and_slots: "node1:2,node3:2", for mpirun
hosts_and_slots() {
    local node list="" count=0
    for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
        is_left_out "$node" && continue
        ((count++ < nodes)) || break
        list+=$node:$ranks_per_node,
    done
    echo "${list%,}"
}

# start WAY SECONDS COMMAND...: instead of this shell; 0: as long as it takes
start() {
    local way=$1 limit=() without
    [ "$2" = 0 ] || limit=(timeout -k 5 "$2")
    shift 2
    without=$(IFS=,; echo "${left_out[*]}")
    # not --kill-on-bad-exit: every rank ends with 75, and none of them shall be killed for it
    case $way in
    srun) exec "${limit[@]}" srun --mpi="$mpi_plugin" --nodes="$nodes" --ntasks="$ranks" \
        --ntasks-per-node="$ranks_per_node" ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
        ${without:+--exclude="$without"} --wait="$node_timeout" "$@" ;;
    mpirun) exec "${limit[@]}" mpirun --quiet -n "$ranks" --host "$(hosts_and_slots)" \
        --map-by "ppr:$ranks_per_node:node" --bind-to none "$@" ;;
    esac
}

# choose_way: `way` is the one in which ranks find each other here; otherwise what each has said
choose_way() {
    local try log said="" line
    log=$(mktemp) || job_fail 3 "no temporary file: see TMPDIR"
    for try in srun mpirun; do
        [ "$launch" = auto ] || [ "$launch" = "$try" ] || continue
        # the shortest program in which every rank must find all others
        start "$try" 120 "$zoetrope" infer --help < /dev/null > "$log" 2>&1 &
        wait_for $!
        [ "$code" != 0 ] || way=$try
        # asked to end: there is nothing to start
        [ -z "$way" ] && [ -z "$asked" ] || break
        line=$(grep -a -m 1 '^zoetrope: ' "$log") || line=$(grep -a -m 1 '[[:alnum:]]' "$log")
        said+="; $try: ${line:-ended with code $code and said nothing}"
    done
    rm -f "$log"
    [ -z "$way" ] && [ -z "$asked" ] || return
    [ -n "$said" ] || job_fail 2 "slurm/env.sh: launch is '$launch', not auto, srun or mpirun"
    come_back_if_lost
    job_fail 2 "ranks do not find each other here: in slurm/env.sh load an Open MPI that mpirun or srun --mpi=pmix can start, or set launch and mpi_plugin$said"
}

job_run() {
    way=""
    choose_way
    code=75
    [ -z "$asked" ] || return
    say "ranks are started by $way"
    start "$way" 0 "$@" < /dev/null &
    launcher=$!
    pass_on
    wait_for $launcher
    launcher=0
    # ranks that did not listen yet ended by the signal itself, and had made nothing
    if [ -n "$passed_on" ] && ((code == 128 + $(kill -l USR1))); then code=75; fi
}

# ---- coming back ----

# job_guard FILE MARK: FILE keeps how many restarts in a row have begun at MARK, the newest that was made
job_guard() {
    local count=0 before="" mark
    if ((restarts > 0)) && [ -f "$1" ]; then
        read -r count mark < "$1"
        before=$mark
    fi
    if [ "$before" = "$2" ] && [[ $count =~ ^[0-9]$ ]]; then count=$((count + 1)); else count=0; fi
    { mkdir -p "$(dirname "$1")" && echo "$count $2" > "$1"; } 2> /dev/null ||
        job_fail 3 "$1: cannot be written: a job that comes back keeps count there"
    ((count < 3)) || job_fail 4 "3 restarts in a row have made nothing new since $2 ($1): read how each of them ended above, then submit the job again"
}

# come_back WHY: back into the queue; Slurm ends this shell. A job that was cancelled stays so.
come_back() {
    local state="" try
    # a controller that has much to do lets questions time out
    for ((try = 0; try < 6; try++)); do
        state=$(squeue -h -j "$me" -o %T 2> /dev/null)
        [ -z "$state" ] || break
        sleep 2
    done
    [ "$state" = RUNNING ] || return
    say "$1: requeue"
    trap - USR1 TERM
    scontrol requeue "$me" || job_fail "$code" "scontrol requeue $me was refused: submit the job again to go on"
    sleep 300
}

# A lost node takes its ranks along long before Slurm notices; one that was left out had none.
come_back_if_lost() {
    local node lost=""
    for node in $(lost_nodes); do
        is_left_out "$node" || lost+=", $node"
    done
    [ -z "$lost" ] || come_back "code $code, and ${lost#, } does not answer"
}

# TERM, too, but from Slurm: it ends this start for a job that is more urgent
is_preempted() { scontrol show job -o "$me" 2> /dev/null | grep -q ' PreemptTime=[0-9]'; }

job_end() {
    case $code in
    0) ;;
    75) if [ "$asked" != TERM ] || is_preempted; then come_back "code 75"; fi ;;
    *) come_back_if_lost ;;
    esac
    say "ends with code $code"
    exit "$code"
}
