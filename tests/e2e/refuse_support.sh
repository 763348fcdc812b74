# Sourced by the scripts of bad inputs: what must be refused, alone and on several ranks alike, with
# one line, the right exit code, in time, and without anything half-made left behind.
# shellcheck shell=bash
# shellcheck disable=SC2034 # variables that the scripts use
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh

sizes="1 2"  # on how many ranks each is tried
limit_s=40   # a hang
small_model=(model.num_layers=2 model.num_attention_heads=2 model.attention_head_dim=16
    model.ffn_dim=64 text.num_layers=1)
small_run=(run.dir="$work/run" data.train="$data" data.batch=4 data.micro_batch=2 parallel.threads=1
    train.steps=6 train.warmup=0 checkpoint.every=2)
small_train=(train configs/tiny.yaml "${small_model[@]}" "${small_run[@]}")
small_video=(--size 32x32 --frames 9 --steps 2)

cat > "$work/rank.sh" << 'END'
"$@"
code=$?
echo $code > "$CODES/$OMPI_COMM_WORLD_RANK"
exit $code
END

# attempt RANKS ARGUMENT...: runs the program. code: the exit code that every rank had, or what the
# ranks had in turn, said: the error lines
attempt() {
    local ranks=$1
    shift
    export CODES=$work/codes
    rm -rf "$CODES"
    mkdir "$CODES"
    if [ "$ranks" = 1 ]; then
        timeout --kill-after=5 $limit_s "$ZOETROPE" "$@" > "$work/stdout" 2> "$work/stderr" < /dev/null
        code=$?
    else
        # every rank ends by itself, so that each one's code is known
        timeout --kill-after=5 $limit_s mpirun -n "$ranks" --mca orte_abort_on_non_zero_status 0 \
            bash "$work/rank.sh" "$ZOETROPE" "$@" > "$work/stdout" 2> "$work/stderr" < /dev/null
        code=$?
        [ "$(find "$CODES" -type f | wc -l)" = "$ranks" ] && code=$(sort -u "$CODES"/* | tr '\n' ' ') && code=${code% }
    fi
    said=$(grep -a '^zoetrope: ' "$work/stderr")
}

# trouble CODE PATTERN: what is wrong with the last attempt; nothing when it was refused as it should
trouble() {
    local partial
    partial=$(find "$work" -name '*.tmp' -o -name '*.partial' -o -name '*.old' | head -n 1)
    if [ "$code" != "$1" ]; then echo "code $code, not $1: ${said:-$(tail -n 2 "$work/stderr")}"
    elif [ "$(grep -c . <<< "$said")" != 1 ]; then echo "not one line: ${said:-nothing}"
    elif [[ $said != *$2* ]]; then echo "'$2' is not in: $said"
    elif [ -n "$partial" ]; then echo "left behind: $partial"
    elif grep -q Sanitizer "$work/stderr"; then grep -m 1 Sanitizer "$work/stderr"; fi
}

# refused NAME CODE PATTERN ARGUMENT...: on each of $sizes
refused() {
    local name=$1 want=$2 text=$3 ranks why
    shift 3
    for ranks in $sizes; do
        attempt "$ranks" "$@"
        why=$(trouble "$want" "$text")
        [ -z "$why" ] || { not_ok "$name" "on $ranks ranks: $why"; return 1; }
    done
    echo "    ${said:0:200}"
    ok "$name"
}

# newest_checkpoint RUN: the name of the last one that is committed
newest_checkpoint() {
    find "$1/checkpoints" -maxdepth 1 -name 'step-????????' -printf '%f\n' | sort | tail -n 1
}

# works NAME ARGUMENT...: alone, code 0
works() {
    local name=$1
    shift
    attempt 1 "$@"
    if [ "$code" = 0 ]; then ok "$name"; else not_ok "$name" "code $code: $said"; fi
}
