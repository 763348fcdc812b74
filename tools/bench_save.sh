#!/bin/bash
# What saving costs: `small` (1,024 tokens, one rank) with a checkpoint every 15 steps, beside training and
# at once, and none at all. A step's time is that until the next one begins, a save after it included; its
# neighbours are the one before and the one after. One line a way; about 7 minutes.
set -eu
cd "$(dirname "$0")/.."
program=${BUILD:-build}/zoetrope saves=${1:-20}
work=$(mktemp -d "${TMPDIR:-/tmp}/bench_save.XXXXXX")
trap 'rm -rf "$work"' EXIT

mkdir "$work/clips"
ffmpeg -v error -f lavfi -i testsrc2=size=256x256:rate=8:duration=8 -pix_fmt yuv420p "$work/clips/bars.mp4"
echo 'coloured bars with a counter' > "$work/clips/bars.txt"
"$program" ingest "$work/clips" --out "$work/data" --frames 13 --size 256x256 --fps 8 > /dev/null 2>&1

# run NAME STEPS EVERY KEY=VALUE...
run() {
    local name=$1 steps=$2 every=$3 peak
    shift 3
    "$program" train configs/tiny.yaml model.preset=small data.train="$work/data" run.dir="$work/$name" \
        data.batch=1 data.micro_batch=1 train.steps="$steps" train.schedule=constant train.warmup=0 \
        checkpoint.keep=1 checkpoint.every="$every" "$@" > "$work/$name.log" 2>&1 ||
        { tail -n 3 "$work/$name.log" >&2; exit 1; }
    peak=$(sed -n 's/.*resident at most \([0-9.]*\) MiB.*/\1/p' "$work/$name.log")
    # the first steps find new memory, after the last one the run waits
    sed -n 's/.*"step":\([0-9]*\),.*"step_s":\([0-9.e+-]*\),.*"save_s":\([0-9.e+-]*\),.*/\1 \2 \3/p' "$work/$name/metrics.jsonl" |
        awk -v every="$every" -v name="$name" -v peak="$peak" '
        { took[$1] = $2; if ($1 > 1) took[$1 - 1] += $3 }
        function median(a, n,   i, j, t) {
            for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return n ? 1000 * (a[int((n + 1) / 2)] + a[int((n + 2) / 2)]) / 2 : 0
        }
        END {
            for (i = 5; i < NR; i++) {
                all[++n] = took[i]; sum += took[i]
                if (every == 0 || i % every != 0 || i + 1 >= NR) continue
                saves[++s] = took[i]; near[++o] = took[i - 1]; near[++o] = took[i + 1]
            }
            printf "%-8s  all %5.0f ms (mean %5.0f)", name, median(all, n), 1000 * sum / n
            if (s) printf ", %2d that save %5.0f ms, their neighbours %5.0f ms, ratio %.3f", s, median(saves, s), median(near, o), median(saves, s) / median(near, o)
            printf "; resident at most %.0f MiB\n", peak
        }'
}
run none 60 0 checkpoint.async=false
run beside $((15 * saves + 3)) 15
run at_once 63 15 checkpoint.async=false
