#!/bin/bash
# The quickstart: five real clips (or CLIPS=folder), ingest, training on two ranks, evaluation, and
# videos of wordings that were never trained on. `make quickstart` installs and builds first.
#
# Everything goes under runs/quickstart, or runs/NAME for a folder NAME of a person's own clips; run
# again, it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
zoetrope=${BUILD:-build}/zoetrope
clips=${CLIPS:-}
run=runs/$(basename "${clips:-quickstart}")
ranks=${RANKS:-2}

# two ranks on any machine, also as root in a container
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader
export OMP_WAIT_POLICY=passive

say() {
    printf '\n== %s\n' "$1" >&2
}

if [ -z "$clips" ]; then
    clips=$run/clips
    say "clips"
    tools/fetch_clips.sh "$clips" >&2
fi

say "ingest"
if [ ! -f "$run/data/dataset.json" ]; then
    rm -rf "$run/data"
    "$zoetrope" ingest "$clips" --out "$run/data" --frames 17 --size 64x64 --fps 8 \
        --stride 4 --seconds 4
fi

say "train"
mpirun -n "$ranks" "$zoetrope" train configs/tiny.yaml "run.dir=$run/train" "data.train=$run/data"

say "evaluate"
"$zoetrope" evaluate --model "$run/train" --data "$run/data" --guidance 2

# one wording a video that training has not seen; of a person's own clips the first wording of each
prompts=$run/prompts.txt
if [ -f "$clips/heldout.txt" ]; then
    cp "$clips/heldout.txt" "$prompts"
else
    head -qn 1 "$clips"/*.txt > "$prompts"
fi

say "render"
"$zoetrope" infer --model "$run/train" --prompts "$prompts" --guidance 2 \
    --out "$run/videos" --sheet "$run/sheet.png"

say "done"
echo "videos:"
ls "$run"/videos/*.mp4
echo "contact sheet: $run/sheet.png"
