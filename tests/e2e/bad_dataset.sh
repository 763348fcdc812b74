#!/bin/bash
# Datasets that are damaged, of another version or none at all: training names the file and what is
# wrong with it, code 3, on one rank and on two, and learns from nothing that was not written.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok bad_dataset "no dataset"; exit 1; }
whole=$data
shard=$whole/shard-00000.h5
bytes=$(stat -c %s "$shard")

# fresh: a new copy of the dataset in $copy
fresh() {
    copy=$work/copy
    rm -rf "$copy" "$work/run"
    cp -r "$whole" "$copy"
}
# flip FILE OFFSET: changes one bit of that byte
flip() {
    local byte
    byte=$(od -An -t u1 -j "$2" -N 1 "$1")
    printf %b "\\x$(printf %02x $((byte ^ 4)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
# bad NAME PATTERN [KEY=VALUE...]: training on the copy is refused
bad() {
    local name=$1 pattern=$2
    shift 2
    refused "$name" 3 "$pattern" "${small_train[@]}" data.train="$copy" "$@"
}

fresh
sed -i 's/"version": 1/"version": 9/' "$copy/dataset.json"
bad another_version 'copy/dataset.json*version*9'
fresh
sed -i 's/zoetrope-dataset/other-dataset/' "$copy/dataset.json"
bad another_format 'copy/dataset.json*is not a zoetrope-dataset'
fresh
rm "$copy/shard-00000.h5"
bad missing_shard 'copy/shard-00000.h5'
fresh
rm "$copy/dataset.json"
bad folder_without_its_list 'copy*dataset.json'
for share in 0 1 50 99; do
    fresh
    truncate -s $((bytes * share / 100)) "$copy/shard-00000.h5"
    bad "shard_cut_to_${share}_percent" 'copy/shard-00000.h5'
done
fresh
truncate -s 100 "$copy/dataset.json"
bad list_cut_short 'copy/dataset.json'
fresh
head -c "$bytes" /dev/urandom > "$copy/shard-00000.h5"
bad shard_of_noise 'copy/shard-00000.h5'
fresh
flip "$copy/shard-00000.h5" "$(grep -abo 'frames' "$shard" | head -n 1 | cut -d : -f 1)"
bad byte_flipped_in_the_index 'copy/shard-00000.h5'
fresh
flip "$copy/shard-00000.h5" $((bytes / 10))
bad byte_flipped_in_the_codec 'copy/shard-00000.h5: /codec/basis'
fresh
sed -i 's/"fps": 8/"fps": 9/' "$copy/dataset.json"
bad what_people_read_is_changed 'copy/dataset.json*is damaged'
fresh
# without its digest, as an earlier version wrote it
sed -i -z -e 's/"clips": 24/"clips": 25/g' -e 's/,\n  "record_sha256": "[0-9a-f]*"//' "$copy/dataset.json"
bad count_of_clips_is_wrong 'copy*25'
fresh
mkdir "$copy/old" && mv "$copy/shard-00000.h5" "$copy/old/" && mkdir "$copy/shard-00000.h5"
bad folder_in_place_of_a_shard 'copy/shard-00000.h5'

# latents are the end of the file; a byte of them is seen when its clip comes
sizes=1
for share in 70 97; do
    fresh
    flip "$copy/shard-00000.h5" $((bytes * share / 100))
    bad "byte_flipped_at_${share}_percent_names_the_clip" 'copy/shard-00000.h5: clip*, from *.mp4 at' \
        train.steps=12 checkpoint.every=100
done
sizes="1 2"

copy=$work/clips
bad not_a_dataset "clips*dataset.json"
copy=$work/clips/bars.mp4
bad file_in_place_of_a_dataset "bars.mp4"
copy=$work/absent
bad absent_dataset "absent*"

# a checkpoint made before the damage was met stays, and is what the repaired run goes on from
fresh
flip "$copy/shard-00000.h5" $((bytes * 8 / 10))
sizes=2
long=(train.steps=12 checkpoint.every=1 data.batch=2 data.micro_batch=1)
bad damage_found_on_the_way 'copy/shard-00000.h5: clip*' "${long[@]}"
before=$(newest_checkpoint "$work/run")
works repaired_run_goes_on "${small_train[@]}" "${long[@]}"
if [ -n "$before" ] && grep -q "resumed from .*$before" "$work/stderr"; then ok from_the_last_checkpoint_before_the_damage
else not_ok from_the_last_checkpoint_before_the_damage "'$before': $(grep resumed "$work/stderr")"; fi

# ---- held-out clips --------------------------------------------------------------------------------

sizes="1 2"
rm -rf "$work/run"
"$ZOETROPE" ingest "$work/clips" --out "$work/eight" --frames 9 --size 32x32 --channels 8 > "$work/stdout" 2>&1
refused heldout_of_another_codec 2 'data.heldout*different codecs*--codec' "${small_train[@]}" data.heldout="$work/eight"
refused heldout_that_is_absent 3 "$work/absent" "${small_train[@]}" data.heldout="$work/absent"
refused heldout_that_is_no_dataset 3 "$work/clips" "${small_train[@]}" data.heldout="$work/clips"
