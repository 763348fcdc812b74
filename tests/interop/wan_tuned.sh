#!/bin/bash
# Models fine-tuned here as diffusers loads and samples them (PyPI torch, diffusers, transformers,
# peft, ftfy): from the same noise both render the same latents.
set -u
# shellcheck source=tests/interop/interop_support.sh
. "$(dirname "$0")/interop_support.sh"
needs torch diffusers transformers peft safetensors ftfy
version torch diffusers transformers peft
base=$PWD/tests/fixtures/wan_pipelines/t2v

mkdir -p "$work/clips"
for i in 1 2 3; do
    ffmpeg -v error -y -f lavfi -i testsrc2=size=48x32:rate=8:duration=2 -vf "hue=h=$((40 * i))" \
        -pix_fmt yuv420p "$work/clips/$i.mp4" < /dev/null
    echo "bars, number $i" > "$work/clips/$i.txt"
done
"$zoetrope" ingest "$work/clips" --out "$work/data" --size 48x32 --frames 9 --fps 8 --vae "$base" \
    --text-encoder "$base" > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
printf 'codec: { kind: wan, vae: %s }\ndata: { train: %s, batch: 2 }\ntrain: { steps: 6, lr: 3e-3, ema: 0.5 }\n' \
    "$base" "$work/data" > "$work/tune.yaml"

# tune NAME KEY=VALUE...
tune() {
    "$zoetrope" train "$work/tune.yaml" run.dir="$work/$1" model.from="$base" "${@:2}" > "$work/log" 2>&1 ||
        { cat "$work/log"; failed=1; }
    tuned=$work/$1/checkpoints/step-00000006
}
# render MODEL WEIGHTS: our latents
render() {
    "$zoetrope" infer --model "$1" --weights "$2" --noise "$base/noise.safetensors" --prompt "A red fox." \
        --negative "blurry" --size 48x32 --frames 9 --steps 12 --shift 3 --guidance 5 --out "$work/v.mp4" \
        --save-latents "$work/ours.safetensors" > "$work/log" 2>&1 || { cat "$work/log"; failed=1; }
}
same() { "$python" tests/interop/wan_tuned.py "$@" "$base/noise.safetensors" "$work/ours.safetensors"; }

tune full
for weights in raw ema; do
    "$zoetrope" convert "$tuned" "$work/whole-$weights" --weights $weights --quiet > /dev/null || failed=1
    render "$tuned" $weights
    accepts "diffusers_renders_a_model_tuned_here_$weights" same pipeline "$work/whole-$weights"
done
tune low lora.rank=4 lora.alpha=8
render "$tuned" raw
accepts diffusers_renders_with_a_lora_trained_here same lora "$base" "$tuned/lora"
render "$base" raw
refuses the_model_alone_gives_other_latents same lora "$base" "$tuned/lora"
exit $failed
