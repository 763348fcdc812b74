# Sourced by the scripts that disturb training: a job of four ranks in the background, moments drawn
# from a seed, and what must still be there after a job has died.
# shellcheck shell=bash
# shellcheck disable=SC2034 # variables that the scripts use
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh

# what they set: the run's folder, where the job's words go, checkpoint.keep, the longest job
run="" log="" keep=1 job_limit_s=100

end_limit_s=10   # of a job that has lost a rank; Open MPI itself takes two seconds
start_limit_s=60 # from the command to the first step, on a machine that does other things too

# nap SECONDS: sleeps without starting a process
exec {nap_fd}<> <(:)
nap() { read -rt "$1" -u "$nap_fd"; }
now_us() { now=${EPOCHREALTIME/./}; }

# draw LOW HIGH: an integer between them in `drawn`. Never in a subshell, where RANDOM has another seed
draw() { drawn=$(($1 + (RANDOM * 32768 + RANDOM) % ($2 - $1 + 1))); }

# column_of_file FILE NAME: that value of every whole line
column_of_file() { [ ! -f "$1" ] || sed -nE "s/^\{\"step\".*\"$2\":\"?([^\",}]*).*\}\$/\1/p" "$1"; }
# series FILE: step and loss_hex of every whole line
series() { [ ! -f "$1" ] || sed -nE 's/^\{"step":([0-9]+),.*"loss_hex":"([^"]+)".*\}$/\1 \2/p' "$1"; }

# ---- the job -------------------------------------------------------------------------------------

# begin_job COMMAND...: $run trains in the background; its `timeout` in `limit`, what it says in $log
begin_job() {
    now_us
    begun=$now
    : > "$log"
    timeout -k 5 "$job_limit_s" "$@" > "$log" 2>&1 < /dev/null &
    limit=$!
}

alive() { kill -0 "$limit" 2> /dev/null; }

# await_step: until the job has trained a step since it was started. 1: it ended before, or takes too long
await_step() {
    while alive; do
        [[ $(< "$log") =~ (^|$'\n')step\ [0-9]+/[0-9]+\ loss ]] && return 0
        now_us
        ((now - begun < start_limit_s * 1000000)) || return 1
        nap 0.01
    done
    return 1
}

# find_ranks: the processes of its ranks in `ranks`
find_ranks() {
    local mpirun
    mpirun=$(pgrep -P "$limit" -x mpirun)
    mapfile -t ranks < <(pgrep -P "${mpirun:-0}" -x zoetrope)
}

# end_job: what is left of it, by force; for jobs that did not do what they should
end_job() {
    find_ranks
    # `timeout` leads a group, in which mpirun is
    kill -9 "${ranks[@]}" 2> /dev/null
    kill -9 -- "-$limit" 2> /dev/null
    wait "$limit" 2> /dev/null
}

# await_end: until the job has ended by itself; `code`, `took_ms`, and ranks that outlived it in `orphans`
await_end() {
    local start pid i
    now_us
    start=$now
    wait "$limit" 2> /dev/null
    code=$?
    now_us
    took_ms=$(((now - start) / 1000))
    # mpirun may be gone an instant before what it has killed
    for ((i = 0; i < 100; i++)); do
        orphans=0
        for pid in "${ranks[@]}"; do
            [[ $(cat "/proc/$pid/stat" 2> /dev/null) =~ \(zoetrope\)\ [^ZX] ]] && orphans=$((orphans + 1))
        done
        ((orphans > 0)) || break
        nap 0.01
    done
}

# ---- what is committed ---------------------------------------------------------------------------

# look: committed steps, rising, in `committed`; `newest`, 0 when there is none; `reached`, the most there were
# at once, up to $keep
reached=0
look() {
    local path
    committed=() newest=0
    for path in "$run"/checkpoints/step-????????; do
        [ -d "$path" ] && committed+=($((10#${path##*-})))
    done
    ((${#committed[@]})) && newest=${committed[-1]}
    ((reached >= keep || reached >= ${#committed[@]})) || reached=$((${#committed[@]} < keep ? ${#committed[@]} : keep))
}

# remember: the checkpoints that are committed now, each with the digest of its manifest, in `known`
declare -A known=()
remember() {
    local step sum
    look
    known=()
    for step in "${committed[@]}"; do
        read -r sum _ < <(sha256sum "$run/checkpoints/step-$(printf %08d "$step")/manifest.json" 2> /dev/null)
        # pruned while this looked at it
        [ -n "$sum" ] && known[$step]=$sum
    done
}

# missing: what is wrong with them now, nothing when all are there that checkpoint.keep does not prune: the
# newest must not be older, the newest $keep keep their bytes, no moment has fewer than $keep once there were
# so many, every folder under a final name verifies
missing() {
    local step sum before=("${!known[@]}") was=0 of_both
    look
    ((${#before[@]} + ${#committed[@]})) || return
    for step in "${before[@]}"; do ((step > was)) && was=$step; done
    ((${#committed[@]} >= reached)) || { echo "only ${#committed[@]} are left of $reached"; return; }
    ((newest >= was)) || { echo "the newest was $was and is $newest"; return; }
    mapfile -t of_both < <(printf '%s\n' "${before[@]}" "${committed[@]}" | grep . | sort -nru | head -n "$keep")
    for step in "${of_both[@]}"; do
        [ -n "${known[$step]:-}" ] || continue
        read -r sum _ < <(sha256sum "$run/checkpoints/step-$(printf %08d "$step")/manifest.json" 2>&1)
        [ "$sum" = "${known[$step]}" ] || { echo "step $step is not what it was"; return; }
    done
    ((${#committed[@]} == 0)) || "$ZOETROPE" verify "$run" > "$work/verify" 2>&1 || tail -n 1 "$work/verify"
}

# came_back: what is wrong with the start that $log tells of, when $newest was committed before it
came_back() {
    if grep -q 'passed over' "$log"; then grep -m 1 'passed over' "$log"
    elif ((newest > 0)) && ! grep -q "resumed from .*: step $newest\$" "$log"; then
        echo "not resumed from step $newest: $(grep -m 1 'resumed from' "$log")"
    elif ((newest == 0)) && grep -q 'resumed from' "$log"; then echo "resumed from nothing"; fi
}

# ---- results -------------------------------------------------------------------------------------

# row WHAT VALUE [WANTED HELD]: one line of the table that `make chaos` ends with
row() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "${3:-}" "${4:-}" >> "${RESULTS:-/dev/null}"; }

# promise NAME WHAT VALUE WANTED WHY: holds when WHY is empty
promise() {
    if [ -z "$5" ]; then ok "$1"; else not_ok "$1" "$5"; fi
    row "$2" "$3" "$4" "$([ -z "$5" ] && echo yes || echo NO)"
}
