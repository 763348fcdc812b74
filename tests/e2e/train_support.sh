# Sourced by the scripts that train: a small dataset and runs of `tiny` on any mesh.
# shellcheck shell=bash
# shellcheck source=tests/e2e/check_support.sh
. tests/e2e/check_support.sh
data=$work/data

# make_dataset: $data from two moving test pictures with captions, 9 frames of 32x32. The scripts of one
# tests/run.sh copy what the first of them made into $SHARED
make_dataset() {
    local made=${SHARED:-$work}/small
    if [ ! -d "$made/data" ]; then
        mkdir -p "$made/clips"
        ffmpeg -v error -y -f lavfi -i testsrc2=size=64x64:rate=8:duration=4 -pix_fmt yuv420p "$made/clips/bars.mp4"
        ffmpeg -v error -y -f lavfi -i mandelbrot=size=64x64:rate=8 -t 4 -pix_fmt yuv420p "$made/clips/fractal.mp4"
        printf 'coloured bars with a counter\na test picture\n' > "$made/clips/bars.txt"
        printf 'a fractal grows\n' > "$made/clips/fractal.txt"
        "$ZOETROPE" ingest "$made/clips" --out "$made/data" --frames 9 --size 32x32 --fps 8 --stride 2 \
            > /dev/null 2>&1 || return
    fi
    cp -r "$made/clips" "$made/data" "$work"
}

# train RANKS RUN KEY=VALUE...: one thread a rank, the log in RUN.log
train() {
    local ranks=$1 run=$2
    shift 2
    local launch=(mpirun -n "$ranks")
    [ "$ranks" = 1 ] && launch=()
    "${launch[@]}" "$ZOETROPE" train configs/tiny.yaml "run.dir=$run" "data.train=$data" \
        parallel.threads=1 train.warmup=5 train.schedule=constant checkpoint.every=0 "$@" \
        > "$run.log" 2>&1
}

# column RUN NAME: that value of every line of its metrics
column() {
    sed -nE "s/.*\"$2\":\"?([^\",}]*).*/\1/p" "$1/metrics.jsonl"
}

# worst RUN_A RUN_B NAME: the largest relative difference of two runs' columns
worst() {
    paste <(column "$1" "$3") <(column "$2" "$3") | awk '
        NF != 2 { print "inf"; exit }
        { d = $1 - $2; if (d < 0) d = -d; r = $1 < 0 ? -$1 : $1; if (d / r > most) most = d / r }
        END { if (NR == 0) print "inf"; else printf "%.2e\n", most }' | head -n 1
}

# below A B: whether number A is below number B
below() {
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "inf" && a + 0 < b + 0) }'
}
