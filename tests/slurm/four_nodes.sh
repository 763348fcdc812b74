#!/bin/bash
# A run on four nodes that loses them one after the other goes on with what is left, and its numbers
# are those of the run that lost none: exact numerics do not know the mesh.
# limit_s: 300
# shellcheck disable=SC2016,SC2034,SC2154 # conditions are expressions that `verdict` evaluates
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/slurm/cluster_support.sh
. tests/slurm/cluster_support.sh
cluster_enter 4 "$0"
make_dataset || { not_ok slurm "no dataset"; exit 1; }

steps=40
train_job() { # NAME NODES KEY=VALUE...
    local name=$1 nodes=$2
    shift 2
    submit "$name" --nodes="$nodes" -- slurm/train.sbatch configs/tiny.yaml run.dir="$work/$name" data.train="$data" \
        data.batch=12 train.warmup=0 train.schedule=constant train.steps=$steps checkpoint.every=5 "${small_model[@]}" \
        numerics=exact parallel.threads=1 "$@"
}
train_job whole 4
until_true 90 ended whole
verdict four_nodes_train_to_the_end whole '[ "$(field whole JobState)" = COMPLETED ]' 'has_line whole "mesh data 4 x"'


# Slurm knows, as after SlurmdTimeout: it requeues the job by itself. Three nodes make no mesh of exact
# numerics, two do.
train_job crashed 2-4
until_true 60 has_checkpoints "$work/crashed" 2
node_crash node3
node_down node3
until_true 90 ended crashed
verdict run_goes_on_without_a_crashed_node crashed '[ "$(field crashed JobState)" = COMPLETED ]' '[ "$(field crashed Restarts)" = 1 ]' \
    'same_run "$work/whole" "$work/crashed" $steps' 'has_line crashed "restart 1: 3 ranks of .* on node\[1-2,4\]"' \
    'has_line crashed "2 nodes are used: 2 ranks"' '[ "$(grep -c "started by srun" "$work/crashed.log")" = 2 ]' 'has_line crashed "mesh data 2 x"' 'has_line crashed "resumed from"'

# The ranks notice first: they end, the node does not answer, and the job asks for the queue itself.
ZOETROPE_NODE_TIMEOUT=3 train_job lost 1-2 comm.timeout_s=3
until_true 60 has_checkpoints "$work/lost" 2
victim=$(last_node lost)
node_crash "$victim"
until_true 120 has_line lost "$victim does not answer: requeue"
sleep 2 # a start in the second of the requeue is refused as one of the old start
node_down "$victim"
until_true 90 ended lost
verdict run_notices_a_lost_node_before_slurm lost '[ "$(field lost JobState)" = COMPLETED ]' '[ "$(field lost Restarts)" = 1 ]' \
    'same_run "$work/whole" "$work/lost" $steps' 'has_line lost "code .*, and $victim does not answer: requeue"' 'has_line lost "resumed from"' \
    '[ "$(grep -c "started by srun" "$work/lost.log")" = 2 ]' '! has_line lost "Broken pipe"'
