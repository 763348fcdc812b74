#!/bin/bash
# limit_s: 900
# numerics: exact gives one answer: the same losses to the last bit, held-out loss included, the same
# weights, moments and averages, the same samples, on every mesh, schedule, recomputation and cut of
# the batch.
#
# Tokens do not divide (12 and 18 over 8), nor does the batch (9 clips of two buckets over 8 chunks).
set -u
# shellcheck source=tests/e2e/train_support.sh
. tests/e2e/train_support.sh
# shellcheck source=tests/e2e/meshes_support.sh
. tests/e2e/meshes_support.sh
make_dataset || { not_ok mesh_exact "no dataset"; exit 1; }
ffmpeg -v error -y -f lavfi -i mandelbrot=size=96x64:rate=8 -t 3 -pix_fmt yuv420p "$work/clips/wide.mp4"
printf 'a wide fractal\n' > "$work/clips/wide.txt"
"$ZOETROPE" ingest "$work/clips" --out "$work/two" --frames 9 --size 32x32 --size 48x32 --fps 8 --stride 4 \
    > /dev/null 2>&1 || { not_ok mesh_exact "no dataset of two buckets"; exit 1; }
data=$work/two
steps=${EXACT_STEPS:-20}
# among all tests a narrow model, which cuts, sends and sums the same; asked for by name, `tiny` as it is
model=("${narrow[@]}")
[ "${T:-}" != mesh_exact ] || model=(text.max_length=24)

# losses RUN: one digest of all its losses, bit for bit (17 digits tell any two doubles apart)
losses() {
    { column "$1" loss_hex; column "$1" heldout_loss; } | sha256sum | cut -d ' ' -f 1
}

# state RUN: one digest of weights, averages and moments
state() {
    "$ZOETROPE" inspect "$1"/checkpoints/step-* --digest 2> /dev/null | sed -n 's/^digest  *//p' | tail -n 1
}

want_losses="" want_state="" first=""
while read -r -u 3 mesh keys; do
    [ -n "$mesh" ] || continue
    describe_mesh "$mesh" "$keys"
    run=$work/$name
    # the batch is cut into passes of 1 or 4 clips
    micro=$((ranks > 1 ? 1 : 4))
    train "$ranks" "$run" numerics=exact "train.steps=$steps" data.batch=9 "${model[@]}" train.clip=0.1 \
        "data.heldout=$data" "train.heldout_every=$steps" \
        "data.micro_batch=$micro" "${args[@]}" || { not_ok "exact_$name" "$(tail -n 1 "$run.log")"; continue; }
    losses=$(losses "$run") state=$(state "$run")
    if [ -z "$first" ]; then
        first=$run want_losses=$losses want_state=$state
        echo "note: losses ${losses:0:16}, state ${state:0:16}, last loss $(column "$run" loss_hex | tail -n 1)"
    fi
    if [ "$losses" != "$want_losses" ]; then
        not_ok "exact_$name" "losses differ: $(paste <(column "$first" loss_hex) <(column "$run" loss_hex) |
            awk '$1 != $2 { print "step " NR ": " $1 " and " $2; exit }'); held-out: $(
            column "$first" heldout_loss | tail -n 1) and $(column "$run" heldout_loss | tail -n 1)"
    elif [ -z "$state" ] || [ "$state" != "$want_state" ]; then
        not_ok "exact_$name" "the same losses, but state ${state:0:16} and not ${want_state:0:16}"
    else ok "exact_$name"; fi
    [ "$run" = "$first" ] || rm -rf "$run"
done 3<<< "$rows"

# sampling: latents of three prompts over tensor x pipeline x context (x guidance)
printf 'coloured bars with a counter\na fractal grows\na test picture\n' > "$work/prompts.txt"
want=""
for mesh in 1x1x1 2x1x1 1x2x1 1x1x2 1x1x1x2 1x4x1 1x2x2 1x1x4 1x2x1x2 2x2x2; do
    IFS=x read -r t p c g <<< "$mesh"
    ranks=$((t * p * c * ${g:-1}))
    launch=(mpirun -n "$ranks")
    [ "$ranks" = 1 ] && launch=()
    "${launch[@]}" "$ZOETROPE" infer --model "$first" --prompts "$work/prompts.txt" --out "$work/v" \
        --save-latents "$work/latents-$mesh.safetensors" --numerics exact --size 32x32 --frames 9 \
        --steps 4 --tensor "$t" --pipeline "$p" --context "$c" \
        --guidance-ranks "${g:-1}" --threads 1 --quiet \
        > "$work/infer.log" 2>&1 || tail -n 2 "$work/infer.log"
    digest=$(sha256sum < "$work/latents-$mesh.safetensors" | cut -d ' ' -f 1)
    [ -n "$want" ] || { want=$digest; echo "note: latents ${digest:0:16}"; }
    if [ -n "$digest" ] && [ "$digest" = "$want" ]; then ok "exact_sample_$mesh"
    else not_ok "exact_sample_$mesh" "latents ${digest:0:16} and not ${want:0:16}"; fi
done
