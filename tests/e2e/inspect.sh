#!/bin/bash
# `zoetrope inspect` and `zoetrope verify` on what the program itself writes: a dataset, a run with
# two checkpoints; whole, damaged, and on what is none of these.
# shellcheck disable=SC2016,SC2034,SC2317 # conditions are expressions that `check` evaluates
set -u
zoetrope=${ZOETROPE:-build/zoetrope}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

# z ARGUMENT...: runs the program; leaves `code`, what it printed in `out`, what it said in `said`
z() {
    "$zoetrope" "$@" > "$dir/stdout" 2> "$dir/stderr" < /dev/null
    code=$?
    out=$(cat "$dir/stdout") said=$(cat "$dir/stderr")
}

# check NAME CONDITION...: one condition a word, each a bash expression; the first false one is why
check() {
    local name=$1 condition
    shift
    for condition in "$@"; do
        if ! eval "$condition"; then
            echo "not ok $name: $condition (code $code: $(tail -n 1 <<< "$said"))"
            failed=1
            return
        fi
    done
    echo "ok $name"
}

# prints LABEL VALUE: a line of the report, whatever its alignment
prints() { grep -qxE -- " *$1 +$2" <<< "$out"; }
holds() { grep -qF -- "$1" <<< "$out"; }
says() { grep -qF -- "$1" <<< "$said"; }
# refused with one line and nothing printed
refused() { [ "$code" = "$1" ] && [ -z "$out" ] && [ "$(wc -l <<< "$said")" = 1 ]; }
# value NAME: of a line of the report
value() { sed -nE "s/^ *$1 +(.*)/\1/p" <<< "$out"; }
# flip FILE OFFSET: changes one byte
flip() {
    local old
    old=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059 # the byte is the format
    printf "\\x$(printf %02x $(((old + 1) % 256)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

mkdir "$dir/clips"
for v in a b; do
    ffmpeg -v error -y -f lavfi -i "testsrc2=size=64x64:rate=8:duration=4" -pix_fmt yuv420p \
        "$dir/clips/$v.mp4" < /dev/null
    printf 'a test picture, number %s\nanother wording\n' $v > "$dir/clips/$v.txt"
done
data=$dir/data run=$dir/run
z ingest "$dir/clips" --out "$data" --frames 9 --size 32x32 --fps 8
train() {
    z train configs/tiny.yaml "run.dir=$run" "data.train=$data" data.batch=2 data.micro_batch=2 \
        parallel.threads=1 checkpoint.every=1 "$@"
}
train train.steps=2 train.warmup=1 train.schedule=constant
new=$run/checkpoints/step-00000002

# ---- datasets ------------------------------------------------------------------------------------

z inspect "$data"
check a_dataset_is_shown '[ $code = 0 ]' 'prints kind dataset' 'prints videos 2' 'prints fps 8' \
    'grep -qE "^3_4_4 +9 +32 +32 +12 +192 " <<< "$out"' 'holds "a test picture, number a"'
whole=$out
z inspect "$data/shard-00000.h5"
check a_shard_stands_for_its_dataset '[ "$out" = "$whole" ]' 'says "belongs to the dataset"'
z inspect "$data" --json
check json_says_it_too 'holds "\"kind\": \"dataset\""' 'holds "\"videos\": 2"' '[ $code = 0 ]'
z verify "$data"
check a_whole_dataset_verifies '[ $code = 0 ]' 'holds "ok: "'
cp -r "$data" "$dir/bad"
flip "$dir/bad/shard-00000.h5" $(($(stat -c %s "$dir/bad/shard-00000.h5") / 2))
z verify "$dir/bad"
check a_flipped_byte_of_a_dataset_is_found 'refused 3' 'says shard-00000.h5'

# ---- checkpoints and runs ------------------------------------------------------------------------

z inspect "$run"
check a_run_is_shown '[ $code = 0 ]' 'prints kind run' 'prints "checkpoint count" 2' 'prints step 2' \
    'grep -qE "^step-00000001 .* yes " <<< "$out"' 'grep -qE "^ +transformer +177 " <<< "$out"'
z inspect "$new"
check a_checkpoint_is_shown '[ $code = 0 ]' 'prints kind checkpoint' 'prints verifies yes' \
    'prints layers 6' 'prints ema yes' 'grep -qE "^optimizer/exp_avg " <<< "$out"'
z inspect "$new" --digest
first=$(value digest) first_weights=$(value "weights digest")
cp -r "$new" "$dir/again"
z inspect "$dir/again" --digest
check equal_checkpoints_have_equal_digests '[ -n "$first" ]' '[ "$(value digest)" = "$first" ]'
rm -r "$dir/again/optimizer"
z inspect "$dir/again" --digest
check the_weights_digest_needs_no_optimizer '[ "$(value digest)" != "$first" ]' \
    '[ "$(value "weights digest")" = "$first_weights" ]' 'prints verifies no'
z inspect "$run/checkpoints/step-00000001" --digest
check another_step_has_another_digest '[ $code = 0 ]' '[ "$(value digest)" != "$first" ]' \
    '[ "$(value "weights digest")" != "$first_weights" ]'
z verify "$new"
check a_whole_checkpoint_verifies '[ $code = 0 ]' 'holds "ok: 17 files"'
z verify "$run"
check a_whole_run_verifies '[ $code = 0 ]' 'holds "ok: 34 files"'

flip "$new/transformer/diffusion_pytorch_model.safetensors" 5000000
rm "$new/tokenizer/tokenizer_config.json"
echo > "$new/added"
z verify "$run"
check every_fault_is_named_on_a_line '[ $code = 3 ]' '[ -z "$out" ]' '[ "$(wc -l <<< "$said")" = 4 ]' \
    'says "diffusion_pytorch_model.safetensors: is damaged"' 'says "tokenizer_config.json: is missing"' \
    'says "added: was added"'
z inspect "$run"
check a_damaged_checkpoint_is_marked '[ $code = 0 ]' 'grep -qE "^step-00000002 .* no " <<< "$out"' \
    'grep -qE "^ +path +.*step-00000001" <<< "$out"'

# ---- tensors -------------------------------------------------------------------------------------

old=$run/checkpoints/step-00000001
z inspect "$old/transformer/diffusion_pytorch_model.safetensors" --digest
check a_safetensors_file_is_shown '[ $code = 0 ]' 'prints "tensor count" 177' \
    'grep -qE "^patch_embedding.weight +F32 +\[256, 48, 1, 2, 2\] +192.0 KiB .* 0 +[0-9a-f]{64}$" <<< "$out"'
alone=$(value digest)
z inspect "$old/transformer" --digest
check a_folder_has_the_digest_of_its_file '[ -n "$alone" ]' '[ "$(value digest)" = "$alone" ]'
z inspect "$old/codec"
check a_codec_is_shown 'prints kind codec' 'prints "latent channels" 48' '[ $code = 0 ]'

# ---- what is none of these -----------------------------------------------------------------------

printf 'some text' > "$dir/text"
printf '\xff\xff\xff\xff\xff\xff\xff\x7f{' > "$dir/hostile.safetensors"
head -c 100000 "$old/codec/linear_codec.safetensors" > "$dir/cut.safetensors"
printf '{"weight_map":{"a":"../cut.safetensors"}}' > "$dir/m.safetensors.index.json"
mkdir "$dir/empty"
for name in text hostile.safetensors cut.safetensors m.safetensors.index.json empty absent; do
    z inspect "$dir/$name"
    check "inspect_refuses_$name" 'refused 3'
    z verify "$dir/$name"
    check "verify_refuses_$name" 'refused 3'
done
z inspect
check a_path_is_wanted 'refused 2'
z verify "$data" --deep
check unknown_options_are_refused 'refused 2'

exit $failed
