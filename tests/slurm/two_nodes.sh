#!/bin/bash
# Jobs on two nodes: submitted, stopped, requeued, cancelled; the ways of starting ranks; arrays.
# limit_s: 300
# shellcheck disable=SC2016,SC2034,SC2154 # conditions are expressions that `verdict` evaluates
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/slurm/cluster_support.sh
. tests/slurm/cluster_support.sh
cluster_enter 2 "$0"

# ---- ingest ----
make_dataset || { not_ok slurm "no dataset"; exit 1; }
submit ingest --cpus-per-task=2 -- slurm/ingest.sbatch "$work/clips" --out "$work/ingested" --frames 9 --size 32x32 --fps 8 --stride 2

# ---- a run that nobody disturbs, and jobs that cannot start ----
steps=80
train_job() { # NAME OPTION... -- KEY=VALUE...
    local name=$1 options=()
    shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    submit "$name" --nodes=2 "${options[@]}" -- slurm/train.sbatch configs/tiny.yaml run.dir="$work/$name" \
        data.train="$data" data.batch=96 data.micro_batch=4 train.warmup=0 train.schedule=constant \
        train.steps=$steps checkpoint.every=0 "${small_model[@]}" parallel.threads=1 "$@"
}
train_job whole --
ZOETROPE_LAUNCH=srun ZOETROPE_MPI=none train_job wrong --
ZOETROPE_LAUNCH=srun ZOETROPE_MPI=pmi2 train_job pmi2 --
train_job bad_key -- train.stepz=3

# asked to stop before it has done anything, at every start
train_job stuck --
for ((i = 0; i < 4; i++)); do
    until_true 90 has_line stuck "restart $i:" && signal stuck
done &

until_true 60 ended ingest
verdict videos_become_a_dataset ingest '[ "$(field ingest ExitCode)" = 0:0 ]' 'diff -r "$data" "$work/ingested"'
until_true 90 ended whole
verdict job_trains_to_its_end whole '[ "$(field whole JobState)" = COMPLETED ]' '[ "$(steps "$work/whole")" = $steps ]' \
    'has_line whole "2 ranks of .* threads on node\[1-2\]"' 'has_line whole "started by srun"' 'has_line whole "time limit in .* the Slurm job.s"'
until_true 60 ended wrong
verdict wrong_mpi_ends_with_2_and_the_fix wrong '[ "$(field wrong ExitCode)" = 2:0 ]' \
    'grep "^zoetrope: ranks do not find each other here: " "$work/wrong.log" | grep -q "Slurm has 2 tasks here .*srun --mpi=pmix"'
until_true 60 ended pmi2
verdict pmi2_ends_with_2_and_the_fix pmi2 '[ "$(field pmi2 ExitCode)" = 2:0 ]' \
    'grep -q "^zoetrope: ranks do not find each other here: .*srun --mpi=pmix" "$work/pmi2.log"'
until_true 60 ended bad_key
verdict other_codes_end_the_job bad_key '[ "$(field bad_key ExitCode)" = 2:0 ]' '[ "$(grep -c "^zoetrope: .*train.stepz" "$work/bad_key.log")" = 1 ]'

# without the script: srun as it is, which starts ranks that do not know each other
srun --nodes=2 --ntasks=2 "$ZOETROPE" train configs/tiny.yaml run.dir="$work/bare" data.train="$data" > "$work/bare.log" 2>&1
code=$?
verdict bare_srun_ends_with_2_and_the_fix bare '[ $code = 2 ]' 'has_line bare "zoetrope: Slurm has 2 tasks here.*srun --mpi=pmix"'

# ---- jobs that come back, and one that does not ----
train_job requeued --
ZOETROPE_LAUNCH=mpirun train_job by_mpirun --
train_job cancelled -- train.steps=100000
train_job told_to_end -- train.steps=100000
for job in requeued by_mpirun; do
    until_true 60 has_steps "$work/$job" 5
    signal $job
done
until_true 60 has_steps "$work/cancelled" 5
scancel "${number[cancelled]}"
until_true 60 has_steps "$work/told_to_end" 5
scancel -s TERM --batch "${number[told_to_end]}"

# ---- videos: an array, each task its share; a job that is stopped between two videos ----
# what a shell would do with these lines must not happen
cat > "$work/prompts.txt" << END
a fractal grows
\$(touch $work/executed) \`touch $work/executed\`; touch $work/executed
"bars" 'with' \\ a counter > $work/executed & | * ?

--out $work/executed
snow
END
videos=(--model "$work/whole" --prompts "$work/prompts.txt" --batch 1 --threads 1)
short=("${videos[@]}" --size 32x32 --frames 9 --steps 4)
submit array --array=1-3 -- slurm/infer.sbatch "${short[@]}" --out "$work/array"
# as long as it takes to be stopped in the middle
long=("${videos[@]}" --size 128x128 --frames 17 --steps 300)
submit stopped --array=1-2 -- slurm/infer.sbatch "${long[@]}" --out "$work/stopped"
# the first video of each task: they have prompts 1 and 2, and 3 to 5
each_has_one() { compgen -G "$1/0001-*.mp4" > /dev/null && compgen -G "$1/0003-*.mp4" > /dev/null; }
until_true 90 each_has_one "$work/stopped"
signal stopped
"$ZOETROPE" infer "${short[@]}" --out "$work/array_alone" --quiet > /dev/null
"$ZOETROPE" infer "${long[@]}" --out "$work/stopped_alone" --quiet > /dev/null

# ---- how all that went ----
until_true 90 ended cancelled
verdict cancelled_job_commits_and_stays_away cancelled '[ "$(field cancelled JobState)" = CANCELLED ]' \
    '[ "$(field cancelled Restarts)" = 0 ]' '[ "$(checkpoints "$work/cancelled")" = 1 ]'
until_true 90 ended told_to_end
verdict job_told_to_end_commits_and_stays_away told_to_end '[ "$(field told_to_end ExitCode)" = 75:0 ]' \
    '[ "$(field told_to_end Restarts)" = 0 ]' '[ "$(checkpoints "$work/told_to_end")" = 1 ]'
for job in requeued by_mpirun; do
    until_true 90 ended $job
    verdict "job_${job}_goes_on_bit_by_bit" $job '[ "$(field $job JobState)" = COMPLETED ]' '[ "$(field $job Restarts)" = 1 ]' \
        'same_run "$work/whole" "$work/$job" $steps' 'has_line $job "code 75: requeue"' 'has_line $job "resumed from"'
done
verdict mpirun_starts_ranks_too by_mpirun 'has_line by_mpirun "started by mpirun"'
until_true 90 ended stuck
verdict third_restart_without_a_checkpoint_is_the_last stuck '[ "$(field stuck ExitCode)" = 4:0 ]' '[ "$(field stuck Restarts)" = 3 ]' \
    '[ "$(grep -c "^zoetrope: 3 restarts in a row have made nothing new since the beginning" "$work/stuck.log")" = 1 ]' \
    '[ "$(cat "$work/stuck/restarts")" = "3 the beginning" ]'
until_true 90 ended array
verdict array_renders_a_file_of_prompts array 'diff -r --exclude=".*" "$work/array_alone" "$work/array"' '[ "$(ls "$work/array" | wc -l)" = 5 ]' \
    '[ ! -e "$work/executed" ]'
until_true 90 ended stopped
verdict tasks_of_an_array_come_back_one_by_one stopped '[ "$(grep -c "code 75: requeue" "$work/stopped.log")" = 2 ]' \
    '[ "$(grep -c "restart 1: " "$work/stopped.log")" = 2 ]' '[ "$(grep -c "ends with code 0" "$work/stopped.log")" = 2 ]' \
    'has_line stopped "videos are there"' 'diff -r --exclude=".*" "$work/stopped_alone" "$work/stopped"'

# ---- a job that makes room for one that is more urgent, and comes back after it ----
# a checkpoint after each step, for the time that it takes
train_job preempted --exclusive -- checkpoint.every=1
until_true 60 has_steps "$work/preempted" 5
sbatch --partition=urgent --nodes=2 --exclusive --output=/dev/null --wrap true > /dev/null
until_true 90 ended preempted
verdict preempted_job_comes_back preempted '[ "$(field preempted JobState)" = COMPLETED ]' '[ "$(field preempted Restarts)" = 1 ]' \
    'has_line preempted "stopped by a signal after"' 'has_line preempted "resumed from"' 'same_run "$work/whole" "$work/preempted" $steps'
