#!/bin/bash
# What saving costs: `small` (1,024 tokens, one rank) with a checkpoint every third step, beside training
# and at once, and none at all. A step's time is that until the next one begins. One line a way.
set -eu
cd "$(dirname "$0")/.."
program=${BUILD:-build}/zoetrope steps=${1:-63} every=3
work=$(mktemp -d "${TMPDIR:-/tmp}/bench_save.XXXXXX")
trap 'rm -rf "$work"' EXIT

mkdir "$work/clips"
ffmpeg -v error -f lavfi -i testsrc2=size=256x256:rate=8:duration=8 -pix_fmt yuv420p "$work/clips/bars.mp4"
echo 'coloured bars with a counter' > "$work/clips/bars.txt"
"$program" ingest "$work/clips" --out "$work/data" --frames 13 --size 256x256 --fps 8 > /dev/null 2>&1

# run NAME KEY=VALUE...
run() {
    local name=$1
    shift
    "$program" train configs/tiny.yaml model.preset=small data.train="$work/data" run.dir="$work/$name" \
        data.batch=1 data.micro_batch=1 train.steps="$steps" train.schedule=constant train.warmup=0 \
        checkpoint.keep=1 "$@" > "$work/$name.log" 2>&1 || { tail -n 3 "$work/$name.log" >&2; exit 1; }
    local values='s/.*"step":\([0-9]*\),.*"step_s":\([0-9.e+-]*\),.*"save_s":\([0-9.e+-]*\),.*/\1 \2 \3/p'
    # the first and the last are of no use: buffers are new, the last save is waited for
    sed -n "$values" "$work/$name/metrics.jsonl" | awk -v every=$every -v name="$name" -v peak="$(
        sed -n 's/.*resident at most \([0-9.]*\) MiB.*/\1/p' "$work/$name.log")" '
        { took[$1] = $2; if ($1 > 1) took[$1 - 1] += $3 }
        function median(a, n,   i, j, t) {
            for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] < a[j - 1]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return n ? (a[int((n + 1) / 2)] + a[int((n + 2) / 2)]) / 2 : 0
        }
        END {
            for (i = every; i < NR; i++) if (i % every == 0) saves[++s] = took[i]; else others[++o] = took[i]
            printf "%-8s  %2d steps that save %7.1f ms, the others %7.1f ms, ratio %.3f; resident at most %.0f MiB\n",
                name, s, 1000 * median(saves, s), 1000 * median(others, o), median(saves, s) / median(others, o), peak
        }'
}
run none checkpoint.every=0
run beside checkpoint.every=$every
run at_once checkpoint.every=$every checkpoint.async=false
