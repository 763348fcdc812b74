# Sourced by the tests of slurm/: a cluster of Slurm on this machine, for as long as the script runs.
#
#     cluster_enter NODES "$0"      the script begins again inside, on the head, with its nodes up
#
# Head and nodes are network namespaces on one bridge; each node has host name, /dev/shm, processes and
# spool of its own, so that MPI takes them for machines and killing one process is losing a node. All of
# it hangs on one process, which ends with the script: nothing stays. Needs root, Slurm and munge.
# shellcheck shell=bash
# shellcheck disable=SC2034 # variables that the scripts use

# cluster_able: says why not, where there can be no cluster
cluster_able() {
    if [ "$(id -u)" != 0 ]; then echo "a cluster of network namespaces needs root"
    elif ! unshare --net --uts --mount --ipc --pid --fork true 2> /dev/null; then echo "unshare is not permitted here"
    elif command -v ip > /dev/null && ! unshare --net --mount sh -c 'ip link add br0 type bridge && mount -t tmpfs none /dev/shm' > /dev/null 2>&1; then
        echo "bridges or mounts are not permitted here"
    fi
}

# in a subnet of its own: nothing is outside
head_address=10.77.0.254
node_address() { echo "10.77.0.$1"; }

write_slurm_conf() {
    local nodes=$1
    # requeued jobs wait for credentials to expire; steps get 5 s where 120 are usual
    cat > "$cluster/slurm.conf" << END
ClusterName=test
SlurmctldHost=head($head_address)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$cluster/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool.%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.%n.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.%n.log
TmpFS=$cluster/tmp.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
SlurmctldTimeout=10
SlurmdTimeout=300
KillWait=8
MinJobAge=300
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
NodeName=node[1-$nodes] NodeAddr=10.77.0.[1-$nodes] CPUs=8 RealMemory=4000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP GraceTime=20
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9 PreemptMode=OFF
END
    echo CgroupPlugin=autodetect > "$cluster/cgroup.conf"
}

start_munge() {
    install -d -m 700 "$cluster/munge"
    dd if=/dev/urandom of="$cluster/munge/key" bs=128 count=1 status=none
    chmod 400 "$cluster/munge/key"
    munged --force --num-threads=2 --key-file="$cluster/munge/key" --socket="$cluster/munge.sock" \
        --pid-file="$cluster/munge/pid" --log-file="$cluster/munge/log" --seed-file="$cluster/munge/seed"
}

# node_start I
node_start() {
    local i=$1 pid
    rm -rf "$cluster/spool.node$i" "$cluster/tmp.node$i"
    mkdir -p "$cluster/spool.node$i" "$cluster/tmp.node$i"
    # shellcheck disable=SC2016 # expanded by the node's shell
    unshare --net --uts --mount --ipc --pid --fork --kill-child=KILL --mount-proc --propagation private sh -c '
        hostname "node$1" && ip link set lo up
        until ip link show eth0 > /dev/null 2>&1; do sleep 0.02; done
        ip addr add "$2/24" dev eth0 && ip link set eth0 up
        mount -t tmpfs -o size=1g tmpfs /dev/shm
        exec slurmd -f "$SLURM_CONF" -N "node$1" -D' node "$i" "$(node_address "$i")" > "$cluster/slurmd.node$i.out" 2>&1 &
    pid=$!
    disown $pid # its end is no news
    echo $pid > "$cluster/node$i.pid"
    ip link add "v$i" type veth peer name "e$i" && ip link set "v$i" master br0 up
    until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
    ip link set "e$i" netns $pid name eth0
}

# node_crash NODE: as when its power goes
node_crash() { kill -9 "$(cat "$cluster/$1.pid")"; }
# node_down NODE: what Slurm finds out by itself after SlurmdTimeout
node_down() { scontrol update nodename="$1" state=down reason=crash; }

cluster_up() {
    local nodes=$1 i
    hostname head && ip link set lo up
    ip link add br0 type bridge && ip addr add $head_address/24 dev br0 && ip link set br0 up || return
    {
        echo "127.0.0.1 localhost"
        echo "$head_address head"
        for ((i = 1; i <= nodes; i++)); do echo "$(node_address "$i") node$i"; done
    } > "$cluster/hosts"
    mount --bind "$cluster/hosts" /etc/hosts && mount -t tmpfs -o size=1g tmpfs /dev/shm || return
    mkdir -p "$cluster/state"
    write_slurm_conf "$nodes"
    export SLURM_CONF=$cluster/slurm.conf
    start_munge || return
    slurmctld -f "$SLURM_CONF" -D > "$cluster/slurmctld.out" 2>&1 &
    for ((i = 1; i <= nodes; i++)); do node_start "$i"; done
    for ((i = 0; i < 300; i++)); do
        [ "$(sinfo -h -t idle -o %D 2> /dev/null)" = "$nodes" ] && return
        sleep 0.1
    done
    tail -n 3 "$cluster"/*.log "$cluster"/*.out
    return 1
}

cluster_enter() {
    local why
    if [ -z "${CLUSTER:-}" ]; then
        why=$(cluster_able)
        [ -z "$why" ] || { echo "not ok cluster: $why"; exit 1; }
        CLUSTER=$(mktemp -d) || exit 1
        export CLUSTER
        exec unshare --net --uts --mount --ipc --pid --fork --kill-child=KILL --mount-proc --propagation private \
            bash "$2"
    fi
    cluster=$CLUSTER
    # what tests/run.sh sets for ranks of one host
    unset OMPI_MCA_pml OMPI_MCA_btl
    export OMPI_MCA_btl=self,vader,tcp
    cluster_up "$1" || { echo "not ok cluster_comes_up: see above"; exit 1; }
    # shellcheck source=tests/e2e/train_support.sh
    . tests/e2e/train_support.sh
    trap 'rm -rf "$work" "$cluster"' EXIT
}

# ---- jobs ----------------------------------------------------------------------------------------

small_model=(model.num_layers=2 model.num_attention_heads=2 model.attention_head_dim=16 model.ffn_dim=64
    text.num_layers=1)

declare -A number # of a job, by its name

# submit NAME OPTION... -- SCRIPT ARGUMENT...: all it says in $work/NAME.log
submit() {
    local name=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    number[$name]=$(sbatch --parsable --time=10 --output="$work/$name.log" "${options[@]}" "$@") || echo "not ok $name: sbatch"
}

# until_true SECONDS COMMAND...: tries again and again; its last code
until_true() {
    local tries=$(($1 * 10)) i
    shift
    for ((i = 0; i < tries; i++)); do
        "$@" && return
        sleep 0.1
    done
    return 1
}
# field NAME FIELD: of scontrol show job
field() { scontrol show job "${number[$1]}" 2> /dev/null | grep -oE "(^| )$2=[^ ]*" | head -n 1 | cut -d = -f 2; }
# a requeued job passes through states that look like an end, but does not leave the queue
ended() { [ -z "$(squeue -h -j "${number[$1]}" 2> /dev/null)" ]; }
# last_node NAME: of those the job has; the first runs the batch shell
last_node() { scontrol show hostnames "$(field "$1" NodeList)" | tail -n 1; }
# signal NAME: USR1 to the batch shell, as Slurm sends it before the time is over
signal() { scancel -s USR1 --batch "${number[$1]}"; }
# steps RUN: lines of its metrics
steps() { column "$1" step 2> /dev/null | wc -l; }
has_steps() { [ "$(steps "$1")" -ge "$2" ]; }
has_line() { grep -qsa -- "$2" "$work/$1.log"; }
checkpoints() { find "$1/checkpoints" -maxdepth 1 -name 'step-????????' 2> /dev/null | wc -l; }
has_checkpoints() { [ "$(checkpoints "$1")" -ge "$2" ]; }

# verdict NAME LOG CONDITION...: bash expressions; the first false one is why, with the job's last lines
verdict() {
    local name=$1 log=$2 condition
    shift 2
    for condition in "$@"; do
        if ! eval "$condition"; then
            not_ok "$name" "$condition"
            grep -av '^step\|^memory' "$work/$log.log" | sed "s/^/    $log: /" | tail -n 25
            return 1
        fi
    done
    ok "$name"
}
# the numbers of two runs, bit for bit, and as many as there should be
same_run() { [ "$(steps "$1")" = "$3" ] && [ "$(column "$1" loss_hex)" = "$(column "$2" loss_hex)" ]; }
