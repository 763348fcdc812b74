#!/bin/bash
# `zoetrope ingest` on videos made here: what goes in, what is refused, and that nothing half-made
# stays behind. Videos are made with the ffmpeg program; nothing else of it is used.
# shellcheck disable=SC2016,SC2034,SC2317 # conditions are expressions that `check` evaluates
set -u
zoetrope=${ZOETROPE:-build/zoetrope}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
failed=0

# make_video FILE SIZE RATE SECONDS [OPTION...]
make_video() {
    local file=$1 size=$2 rate=$3 seconds=$4
    shift 4
    ffmpeg -v error -y -f lavfi -i "testsrc2=size=$size:rate=$rate:duration=$seconds" \
        -pix_fmt yuv420p "$@" "$file" < /dev/null
}

# ingest ARGUMENT...: runs it; leaves the exit code in `code` and what it said in `said`
ingest() {
    "$zoetrope" ingest "$@" > "$dir/stdout" 2> "$dir/stderr" < /dev/null
    code=$?
    said=$(cat "$dir/stderr")
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

# says TEXT: among the lines on standard error
says() { grep -qF -- "$1" <<< "$said"; }
# the error is one line, the last; lines before it are warnings at most
one_error() { [ "$(grep -c '^zoetrope: ' <<< "$said")" = 1 ] && [[ $(tail -n 1 <<< "$said") = zoetrope:* ]]; }
nothing_left() { [ ! -e "$dir/out" ] && [ ! -e "$dir/out.partial" ]; }
# a whole dataset
whole() { [ -s "$dir/$1/dataset.json" ] && [ -s "$dir/$1/shard-00000.h5" ] && [ ! -e "$dir/$1.partial" ]; }

mkdir "$dir"/{good,bad,empty}
make_video "$dir/good/a.mp4" 128x96 25 4 -c:v libx264
make_video "$dir/good/b.mkv" 96x128 12 3 -c:v libx264 -bf 2
make_video "$dir/good/c.avi" 256x64 30 10 -c:v mpeg4
for v in a b c; do printf 'a test picture, number %s\nanother wording of %s\n' $v $v > "$dir/good/$v.txt"; done

# ---- what works ----------------------------------------------------------------------------------

ingest "$dir/good" --out "$dir/one" --workers 1
check a_folder_becomes_a_dataset '[ $code = 0 ]' 'whole one' 'says "6 clips"' '[ ! -s "$dir/stdout" ]'

ingest "$dir/good" --out "$dir/two" --workers 3
check any_number_of_workers_writes_the_same_bytes '[ $code = 0 ]' \
    'cmp -s "$dir/one/shard-00000.h5" "$dir/two/shard-00000.h5"' \
    'cmp -s "$dir/one/dataset.json" "$dir/two/dataset.json"'

# fitting a codec takes a second: where it is not what matters, that of the first dataset is taken
fitted=(--codec "$dir/one")

for workers in 1 3; do
    ingest "$dir/good" --out "$dir/text$workers" "${fitted[@]}" --workers $workers --text-encoder tests/fixtures/wan_text
done
check captions_become_embeddings '[ $code = 0 ]' 'whole text3' 'says "text umt5, 6 captions"' \
    'cmp -s "$dir/text1/shard-00000.h5" "$dir/text3/shard-00000.h5"' \
    '[ "$("$zoetrope" inspect "$dir/text3" | grep -c "text width  *32")" = 1 ]'
ingest "$dir/good" --out "$dir/out" --text-encoder tests/fixtures/wan_tiny_random
check an_encoder_without_its_tokenizer_is_refused '[ $code = 3 ]' one_error nothing_left 'says "spiece.model: is missing"'

ingest "$dir/good" --out "$dir/short" "${fitted[@]}" --seconds 2.2
check only_the_first_seconds_are_used '[ $code = 0 ]' 'whole short' 'says "3 clips"'

{
    echo '{"video": "good/a.mp4", "captions": ["a test picture, number a", "another wording of a"]}'
    echo '{"video": "good/b.mkv", "captions": ["a test picture, number b", "another wording of b"]}'
} > "$dir/list.jsonl"
printf 'video,caption\ngood/a.mp4,"a test picture, number a"\ngood/b.mkv,"a test picture, number b"\n' > "$dir/list.csv"
printf 'good/a.mp4,another wording of a\ngood/b.mkv,another wording of b\n' >> "$dir/list.csv"
ingest "$dir/list.jsonl" --out "$dir/jsonl" "${fitted[@]}"
check json_lines_become_a_dataset '[ $code = 0 ]' 'whole jsonl' 'says "2 videos"'
ingest "$dir/list.csv" --out "$dir/csv" "${fitted[@]}"
check csv_becomes_the_same_dataset '[ $code = 0 ]' 'whole csv' \
    'cmp -s "$dir/jsonl/shard-00000.h5" "$dir/csv/shard-00000.h5"'

# 10 s at 8 fps are 80 frames: one clip of 33 every 33, the others have 32 and 24 frames
ingest "$dir/good" --out "$dir/buckets" "${fitted[@]}" --size 64x64 --size 128x32 --size 48x64 --frames 17 --frames 33
check videos_go_to_the_nearest_aspect_and_the_longest_clip '[ $code = 0 ]' \
    'grep -qE "17 x 64x64 +1 +1 " <<< "$said"' 'grep -qE "17 x 48x64 +1 +1 " <<< "$said"' \
    'grep -qE "33 x 128x32 +1 +2 " <<< "$said"'

# the same picture, marked as lying on its side: it goes to the upright bucket
ffmpeg -v error -y -i "$dir/good/a.mp4" -c copy -metadata:s:v rotate=90 "$dir/turned.mp4" < /dev/null
printf 'video,caption\nturned.mp4,x\n' > "$dir/turned.csv"
ingest "$dir/turned.csv" --out "$dir/turned" "${fitted[@]}" --size 64x48 --size 48x64
check a_turned_video_is_put_upright '[ $code = 0 ]' 'says "48x64"' '! says "64x48"'

ingest "$dir/good" --out "$dir/overlap" "${fitted[@]}" --stride 4
check overlapping_clips_are_counted '[ $code = 0 ]' 'says "22 clips"'
ingest "$dir/good" --out "$dir/few" "${fitted[@]}" --stride 4 --max-clips-per-video 2 --shard-mib 1
check clips_of_a_video_can_be_limited '[ $code = 0 ]' 'says "6 clips"'

digest() { sed -n 's/.*codec linear, .* sha256 //p' <<< "$said"; }
ingest "$dir/list.csv" --out "$dir/first" --channels 16
first=$(digest)
ingest "$dir/good" --out "$dir/second" --codec "$dir/first"
check an_earlier_dataset_lends_its_codec '[ $code = 0 ]' '[ -n "$first" ]' '[ "$(digest)" = "$first" ]' \
    'says "16 channels"'

# ---- bad videos: skipped and named, or with --strict an error --------------------------------------

echo 'no video at all' > "$dir/bad/text.mp4"
: > "$dir/bad/nothing.mp4"
ffmpeg -v error -y -i "$dir/good/c.avi" -c copy -movflags +faststart "$dir/fast.mp4" < /dev/null
head -c $(($(stat -c %s "$dir/fast.mp4") / 2)) "$dir/fast.mp4" > "$dir/bad/cut.mp4"
head -c $(($(stat -c %s "$dir/good/a.mp4") / 2)) "$dir/good/a.mp4" > "$dir/bad/noindex.mp4"
head -c $(($(stat -c %s "$dir/good/b.mkv") / 2)) "$dir/good/b.mkv" > "$dir/bad/cut.mkv"
head -c $(($(stat -c %s "$dir/good/c.avi") / 2)) "$dir/good/c.avi" > "$dir/bad/cut.avi"
ffmpeg -v error -y -f lavfi -i sine=duration=2 "$dir/bad/sound.mp4" < /dev/null
make_video "$dir/bad/short.mp4" 64x64 25 1 -c:v libx264
for v in "$dir"/bad/*; do echo "a caption" > "${v%.*}.txt"; done
cp "$dir/good/a.mp4" "$dir/bad/silent.mp4"
cp "$dir/good/a.mp4" "$dir/bad/latin.mp4"
printf 'a caf\xe9\n' > "$dir/bad/latin.txt"
cp "$dir/good/a.mp4" "$dir/good/a.txt" "$dir/bad/"

ingest "$dir/bad" --out "$dir/skip" "${fitted[@]}"
check bad_videos_are_skipped_and_named '[ $code = 0 ]' 'whole skip' 'says "1 clips of 1 videos; 10 skipped"'
problems=(
    "text.mp4: not a video" "nothing.mp4: not a video" "cut.mp4: truncated" "noindex.mp4: not a video, or cut short"
    "cut.mkv: truncated" "cut.avi: truncated" "sound.mp4: has no video stream" "short.mp4: shorter than a clip"
    "silent.mp4: has no caption" "latin.txt:1: caption is not UTF-8"
)
for problem in "${problems[@]}"; do
    check "$(tr . _ <<< "${problem%%:*}")_is_named" 'says "$problem"'
done
for problem in "${problems[@]}"; do
    file=${problem%%:*}
    name=$(tr . _ <<< "$file")
    rm -rf "$dir/strict" && mkdir "$dir/strict"
    stem=${file%.*}
    [ "$file" = latin.txt ] && file=latin.mp4
    cp "$dir/bad/$file" "$dir/good/a.mp4" "$dir/good/a.txt" "$dir/strict/"
    [ -f "$dir/bad/$stem.txt" ] && cp "$dir/bad/$stem.txt" "$dir/strict/"
    ingest "$dir/strict" --out "$dir/out" --strict
    check "${name}_is_an_error_when_strict" '[ $code = 3 ]' one_error 'says "$problem"' nothing_left
done

rm "$dir/strict"/a.*
ingest "$dir/strict" --out "$dir/out"
check no_usable_video_is_an_error '[ $code = 3 ]' one_error 'says "none of its 1 videos"' nothing_left

# ---- bad sources and outputs -------------------------------------------------------------------------

ingest "$dir/empty" --out "$dir/out"
check an_empty_folder_is_an_error '[ $code = 3 ]' one_error 'says "holds no videos"' nothing_left
ingest "$dir/absent" --out "$dir/out"
check a_missing_folder_is_an_error '[ $code = 3 ]' one_error 'says "no such file or folder"' nothing_left
ingest "$dir/good" --out "$dir/one"
check an_existing_output_is_left_alone '[ $code = 2 ]' one_error 'says "exists already"' \
    'cmp -s "$dir/one/shard-00000.h5" "$dir/two/shard-00000.h5"'
ingest "$dir/good" --out "$dir/no/where"
check a_missing_parent_of_the_output_is_an_error '[ $code = 3 ]' one_error 'says "there is no folder"'
ingest "$dir/good" --out "$dir/out" --frames 16
check frames_must_be_4k_plus_1 '[ $code = 2 ]' one_error 'says "4k + 1, the nearest are 13 and 17"' nothing_left
ingest "$dir/good" --out "$dir/out" --size 64x60
check sides_must_be_multiples_of_16 '[ $code = 2 ]' one_error 'says "64x60"' nothing_left
ingest "$dir/good" --out "$dir/out" --codec "$dir/empty"
check a_codec_that_is_none_is_an_error '[ $code = 3 ]' one_error nothing_left

# what an interrupted run has left is cleared; an empty folder may be given
mkdir "$dir/out" "$dir/out.partial" && echo old > "$dir/out.partial/shard-00000.h5.tmp"
ingest "$dir/good" --out "$dir/out/"
check an_interrupted_run_can_be_repeated '[ $code = 0 ]' 'whole out'
rm -rf "$dir/out"

# files may not grow beyond 64 KiB: as on a full disk
(
    ulimit -f 64
    trap '' XFSZ
    "$zoetrope" ingest "$dir/good" --out "$dir/out" > "$dir/stdout" 2> "$dir/stderr"
)
code=$? said=$(cat "$dir/stderr")
check a_full_disk_is_an_error '[ $code = 3 ]' one_error nothing_left

exit $failed
