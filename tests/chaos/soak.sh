#!/bin/bash
# limit_s: 100000
# SOAK_MINUTES of training while things go wrong on average every MTBF seconds: a rank killed, a stop
# (SIGTERM or SIGUSR1 to one rank), a preemption (SIGUSR1 to all, SIGKILL after a grace of 0 to 2 s), a
# disk that is full until a while after the run has ended. All that anybody does is to start the same
# command again. Then the same steps once more without faults: the losses must be the same bits
# (SOAK_COMPARE=no leaves that out: it takes as long as the steps).
#
# Effective training time (ETTR): the step_s of every step of the final metrics, each step once, over the
# time from the first start to the end of the last job. Steps trained again, saves, starts, the dying of
# jobs, waiting for room on the disk and what this script does itself all count as lost.
set -u
: "${ZOETROPE:?run me through tests/run.sh}"
if [ -z "${SOAK_DISK:-}" ]; then
    # a small file system that can be full, in a mount namespace of our own
    if unshare -rm bash -c 'mount -t tmpfs -o size=1m none /mnt' 2> /dev/null; then
        SOAK_DISK=small exec unshare -rm bash "$0"
    fi
    export SOAK_DISK=none
fi
# shellcheck source=tests/e2e/chaos_support.sh
. tests/e2e/chaos_support.sh
disk=$work/disk
mkdir "$disk"
kinds=(kill kill stop preempt)
if [ $SOAK_DISK = small ]; then
    # room for three checkpoints, and for metrics of some 20 MB in half an hour
    mount -t tmpfs -o size=256m none "$disk" || { not_ok soak "cannot mount $disk"; exit 1; }
    trap 'umount "$disk"; rm -rf "$work"' EXIT
    kinds+=(full)
else
    echo "note: no file system can be mounted here: a full disk is left out"
fi
make_dataset || { not_ok soak "no dataset"; exit 1; }
minutes=${SOAK_MINUTES:-30} mtbf_s=${MTBF:-120} seed=${SEED:-1}
RANDOM=$seed
keep=2 job_limit_s=90000
run=$disk/run log=$work/run.log
# 1 M parameters, 24 MB of state; some 30 ms a step on two quiet cores
keys=(train configs/tiny.yaml model.num_layers=4 model.num_attention_heads=4 model.attention_head_dim=32
    model.ffn_dim=512 text.num_layers=1 data.train="$data" data.batch=8 data.micro_batch=4
    parallel.threads=1 parallel.data=2 parallel.tensor=2 train.warmup=0 train.schedule=constant
    checkpoint.keep="$keep")

# go RUN STEPS KEY=VALUE...: a run that nobody disturbs
go() {
    local to=$1 steps=$2
    shift 2
    timeout -k 5 $job_limit_s mpirun -n 4 "$ZOETROPE" "${keys[@]}" run.dir="$to" train.steps="$steps" "$@" > "$log" 2>&1 < /dev/null
}

# ---- faults --------------------------------------------------------------------------------------

declare -A faults=([kill]=0 [stop]=0 [preempt]=0 [full]=0)
deck=()
# next_fault: its kind, all kinds in a drawn order before one comes again, and its moment: a Poisson process
next_fault() {
    local i
    if ((${#deck[@]} == 0)); then
        deck=("${kinds[@]}")
        for ((i = ${#deck[@]} - 1; i > 0; i--)); do
            draw 0 "$i"
            fault=${deck[i]} deck[i]=${deck[drawn]} deck[drawn]=$fault
        done
    fi
    fault=${deck[0]}
    deck=("${deck[@]:1}")
    draw 1 1000000
    now_us
    strikes=$((now + $(awk -v u=$drawn -v m="$mtbf_s" 'BEGIN { printf "%d", -log(u / 1e6) * m * 1e6 }')))
}

# fill: all of the disk but `room` bytes
fill() {
    local held=0 avail
    [ -e "$disk/ballast" ] && held=$(stat -c %s "$disk/ballast")
    avail=$(df --output=avail -B1 "$disk" | tail -n 1)
    ((avail <= room)) || fallocate -l $((held + avail - room)) "$disk/ballast"
}

# strike: the fault happens now; `cause` is what the job will end from. Nothing when it has no ranks yet
strike() {
    local rank signals=(TERM USR1)
    find_ranks
    ((${#ranks[@]} == 4)) || return
    remember
    cause=$fault
    faults[$fault]=$((faults[$fault] + 1))
    draw 0 3
    rank=${ranks[drawn]}
    case $fault in
    kill) kill -9 "$rank" ;;
    stop) draw 0 1 && kill -s "${signals[drawn]}" "$rank" ;;
    preempt)
        kill -USR1 "${ranks[@]}"
        draw 0 2000
        now_us
        killed_at=$((now + drawn * 1000))
        ;;
    full)
        # to the last byte, or so that the next save fails somewhere on its way
        draw -12000000 20000000
        room=$((drawn > 0 ? drawn : 0)) full=1
        fill
        now_us
        filled_at=$now
        ;;
    esac 2> /dev/null
    now_us
    struck=$now
    next_fault
}

# make_room: the disk is no longer full
make_room() { rm -f "$disk/ballast"; full=0 room_at=0; }

# judge: what is wrong with how the job ended
judge() {
    local said
    said=$(grep -a '^zoetrope: ' "$log" | head -n 1)
    case $cause in
    kill) [ "$code" != 0 ] || echo "code 0 after a kill" ;;
    stop) [ "$code" = 75 ] || ((stepped == 0)) || echo "code $code after a stop: $said" ;;
    preempt) [ "$code" = 75 ] || [ "$code" = 137 ] || ((stepped == 0)) || echo "code $code after a preemption: $said" ;;
    full) [ "$code" = 3 ] && [[ $said = *"No space left on device"* ]] || echo "code $code on a full disk: ${said:-$(tail -n 1 "$log")}" ;;
    *) echo "code $code, and nothing had happened: ${said:-$(tail -n 1 "$log")}" ;;
    esac
    # a stop loses nothing: its last step is the last that is saved
    if [ "$code" = 75 ] && ((stepped > 0 && newest != last_step)); then echo "code 75 after step $last_step, saved is $newest"; fi
    ((took_ms <= end_limit_s * 1000 && orphans == 0)) || echo "ended after $took_ms ms, $orphans ranks left"
}

# ---- the soak ------------------------------------------------------------------------------------

full=0 room_at=0 jobs=0 newest=0 starting_us=0 dying_us=0 refused=0
wrong=""
: > "$work/seen"
: > "$work/firsts"
# a step and a save of the machine as it is now, in milliseconds: the last ten steps of a short run
go "$disk/pace" 60 checkpoint.every=10 || { not_ok soak "$(tail -n 1 "$log")"; exit 1; }
step_ms=$(column_of_file "$disk/pace/metrics.jsonl" step_s | tail -n 10 | awk '{ sum += $1 } END { printf "%d", 100 * sum + 1 }')
save_ms=$((($(date -r "$disk/pace/checkpoints/step-00000060" +%s%3N) - $(date -r "$disk/pace/checkpoints/step-00000050" +%s%3N)) - 10 * step_ms))
((save_ms > 10)) || save_ms=10
# Young's interval between checkpoints, sqrt(2 save MTBF): half of what it costs are saves, half is trained again
every=$(awk -v save=$save_ms -v m="$mtbf_s" -v step="$step_ms" 'BEGIN { n = int(sqrt(2 * save * m * 1000) / step); print (n < 5 ? 5 : n) }')
rm -r "$disk/pace"
now_us
first=$now
over=$((first + minutes * 60000000))
next_fault
while [ -z "$wrong" ]; do
    now_us
    ((now < over)) || break
    jobs=$((jobs + 1)) from=$newest stepped=0 struck=0 killed_at=0 cause="" asked=0
    # started on a full disk
    ((full)) && cause=full
    begin_job mpirun -n 4 "$ZOETROPE" "${keys[@]}" run.dir="$run" train.steps=10000000 checkpoint.every="$every"
    while alive; do
        now_us
        if ((stepped == 0)) && [[ $(< "$log") =~ (^|$'\n')step\ [0-9]+/[0-9]+\ loss ]]; then
            stepped=$now
            starting_us=$((starting_us + now - begun))
            wrong=$(came_back)
            [ -z "$wrong" ] || { end_job; break; }
        fi
        ((room_at == 0 || now < room_at)) || make_room
        if ((killed_at > 0 && now >= killed_at)); then
            kill -9 "${ranks[@]}" 2> /dev/null
            killed_at=0
        fi
        # a save may just have made room by pruning
        if ((full && room_at == 0 && now > filled_at + 1000000)); then
            fill
            filled_at=$now
        fi
        if ((now >= over && stepped > 0 && struck == 0 && asked == 0)); then
            # the end: a stop like any other
            find_ranks
            remember
            make_room
            asked=1 cause=stop struck=$now
            kill -TERM "${ranks[0]}"
        elif ((now >= strikes && struck == 0 && full == 0)); then strike; fi
        ((now - begun < 120000000 || stepped > 0)) || { wrong="job $jobs does not begin: $(tail -n 1 "$log")"; end_job; break; }
        ((struck == 0 || now - struck < 30000000)) || { wrong="job $jobs does not end after a $cause"; end_job; break; }
        nap 0.02
    done
    [ -z "$wrong" ] || break
    await_end
    now_us
    if ((struck > 0)); then took_ms=$(((now - struck) / 1000)); fi
    # from its last step to its end
    ((stepped == 0)) || dying_us=$((dying_us + now - $(date -r "$run/metrics.jsonl" +%s%6N)))
    # how long a full disk takes to be noticed depends on when the next save is
    [ "$cause" != full ] || took_ms=0
    if ((stepped == 0)); then
        starting_us=$((starting_us + now - begun))
        [ "$cause" = full ] && refused=$((refused + 1))
    fi
    last_step=$(series "$run/metrics.jsonl" | tail -n 1)
    last_step=${last_step%% *}
    wrong=$(missing)
    look
    [ -n "$wrong" ] || wrong=$(judge | head -n 1)
    echo "    $(((now - first) / 1000000)) s: job $jobs, code $code after ${cause:-nothing}, newest step $newest"
    paste -d ' ' <(series "$run/metrics.jsonl") <(column_of_file "$run/metrics.jsonl" step_s) |
        awk -v from="$from" '$1 > from' > "$work/new"
    cat "$work/new" >> "$work/seen"
    head -n 1 "$work/new" >> "$work/firsts"
    # somebody makes room up to three seconds after the run has ended; it is started again at once
    if ((full && room_at == 0)); then
        fill
        draw 0 3000000
        room_at=$((now + drawn))
    fi
done
now_us
wall_us=$((now - first))
[ -z "$wrong" ] || wrong="job $jobs: $wrong"
end_job
make_room

# ---- what came of it -----------------------------------------------------------------------------

series "$run/metrics.jsonl" > "$work/before"
paste -d ' ' "$work/before" <(column_of_file "$run/metrics.jsonl" step_s) | awk -v last="$newest" '$1 <= last' > "$work/counted"
steps=$((newest + 2))
go "$run" $steps checkpoint.every=0 || wrong=${wrong:-"the last start: $(tail -n 1 "$log")"}
wrong=${wrong:-$(came_back)}
series "$run/metrics.jsonl" > "$work/got"
if [ "${SOAK_COMPARE:-yes}" = no ]; then
    cp "$work/got" "$work/want"
    compared="where steps were trained again"
else
    go "$disk/whole" $steps checkpoint.every=0
    series "$disk/whole/metrics.jsonl" > "$work/want"
    compared="with a run left alone"
fi
differ=$(awk -v steps=$steps 'NR == FNR { want[$1] = $2; next }
    $1 <= steps && want[$1] != $2 { print "step " $1 ": " $2 ", not " want[$1]; exit }' "$work/want" <(cat "$work/got" "$work/seen"))
[ "$(wc -l < "$work/got")" = $steps ] && [ "$(wc -l < "$work/want")" = $steps ] ||
    differ="$(wc -l < "$work/got") of $steps steps in metrics, $(wc -l < "$work/want") in those compared with"

total=0
for kind in "${!faults[@]}"; do total=$((total + faults[$kind])); done
read -r useful_s again_s ettr found_mtbf < <(awk -v wall=$wall_us -v faults=$total '
    FILENAME ~ /counted$/ { useful += $3 } FILENAME ~ /seen$/ { all += $3 }
    END { printf "%.1f %.1f %.4f %.0f\n", useful, all - useful, useful * 1e6 / wall, wall / 1e6 / (faults ? faults : 1) }' \
    "$work/counted" "$work/seen")
# that of a job's first step is a part of its start, too
starting_us=$(awk -v us=$starting_us '{ us -= $3 * 1e6 } END { printf "%d", us }' "$work/firsts")
seconds() { awk -v us="$1" 'BEGIN { printf "%.1f s", us / 1e6 }'; }
rest_us=$(awk -v wall=$wall_us -v a="$useful_s" -v b="$again_s" -v c=$starting_us -v d=$dying_us 'BEGIN { printf "%d", wall - (a + b) * 1e6 - c - d }')
few=""
[ "$(awk -v e="$ettr" 'BEGIN { print (e >= 0.90) }')" = 1 ] || few="$ettr"

echo "note: seed $seed, $minutes minutes: $total faults (${faults[kill]} kills, ${faults[stop]} stops, ${faults[preempt]} preemptions, ${faults[full]} full disks), one in $found_mtbf s; ETTR $ettr"
row "soak, 4 ranks, seed $seed" "$(seconds $wall_us)"
row "faults: kills, stops, preemptions, full disks" "${faults[kill]}, ${faults[stop]}, ${faults[preempt]}, ${faults[full]}$([ $SOAK_DISK = none ] && echo ' (cannot mount)')"
row "mean time between faults (MTBF asked: $mtbf_s s)" "$found_mtbf s"
row "a step, a save, when it began" "$step_ms ms, $save_ms ms"
row "steps between checkpoints, steps in all" "$every, $((steps - 2))"
row "starts, of them on a full disk and refused" "$jobs, $refused"
row "in steps that counted" "$useful_s s"
row "lost: steps trained again" "$again_s s"
row "lost: starts" "$(seconds $starting_us)"
row "lost: from the last step of a job to its end" "$(seconds $dying_us)"
row "lost: saves and the rest" "$(seconds "$rest_us")"
promise soak_needs_nobody "ends and starts that were not as promised" "$([ -z "$wrong" ] && echo 0 || echo some)" 0 "$wrong"
promise soak_losses_are_those_of_a_run_left_alone "loss_hex of $steps steps, $compared" "$([ -z "$differ" ] && echo identical || echo differ)" identical "$differ"
promise effective_training_time_is_at_least_90_percent "effective training time (ETTR)" "$ettr" ">= 0.90" "$few"
