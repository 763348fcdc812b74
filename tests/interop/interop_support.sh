# Sourced by the scripts of this folder, which hold what zoetrope writes against other people's
# programs. `make test` does not run them: they want Python packages, named in docs/interop.md.
#
#     PYTHON=VENV/bin/python tests/interop/model_signing.sh
#
# shellcheck shell=bash
# shellcheck disable=SC2034 # variables that the scripts use
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
python=${PYTHON:-python3}
zoetrope=${ZOETROPE:-build/zoetrope}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
umask 077
failed=0
[ -x "$zoetrope" ] || { echo "there is no $zoetrope: make first"; exit 1; }

# needs MODULE...: ends the script when Python has not got one of them
needs() {
    local module
    for module in "$@"; do
        "$python" -c "import $module" 2> /dev/null && continue
        echo "left out: $python has no $module"
        exit 0
    done
}

# version PACKAGE...: as pip has them
version() {
    local package
    for package in "$@"; do
        echo "$package $("$python" -c "import importlib.metadata as m; print(m.version('$package'))")"
    done
}

# accepts NAME COMMAND... and refuses NAME COMMAND...: by the command's exit code
accepts() { result "$1" 0 "${@:2}"; }
refuses() { result "$1" 1 "${@:2}"; }
result() {
    local name=$1 want=$2 code=0
    shift 2
    "$@" > "$work/log" 2>&1 || code=1
    if [ $code = "$want" ]; then
        echo "ok $name: $(tail -n 1 "$work/log" | sed "s|$work/||g" | cut -c 1-150)"
    else
        echo "not ok $name"
        sed 's/^/    /' "$work/log"
        failed=1
    fi
}

# make_run KEY.pem: two steps of a small model into $run, signed
make_run() {
    run=$work/run
    mkdir -p "$work/clips"
    ffmpeg -v error -y -f lavfi -i testsrc2=size=64x64:rate=8:duration=4 -pix_fmt yuv420p \
        "$work/clips/bars.mp4" < /dev/null
    echo "coloured bars with a counter" > "$work/clips/bars.txt"
    "$zoetrope" ingest "$work/clips" --out "$work/data" --frames 9 --size 32x32 --fps 8 > /dev/null 2>&1 &&
        "$zoetrope" train configs/tiny.yaml run.dir="$run" data.train="$work/data" data.batch=2 data.micro_batch=2 \
            train.steps=2 train.warmup=1 parallel.threads=1 checkpoint.sign="$1" > "$work/log" 2>&1 ||
        { echo "not ok train"; cat "$work/log"; exit 1; }
    checkpoint=$run/checkpoints/step-00000002
}
