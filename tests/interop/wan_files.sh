#!/bin/bash
# Converted models and LoRA files as diffusers and peft read them (PyPI torch, diffusers, peft).
set -u
# shellcheck source=tests/interop/interop_support.sh
. "$(dirname "$0")/interop_support.sh"
needs torch diffusers peft safetensors
version torch diffusers peft safetensors
original=tests/fixtures/wan_original lora=tests/fixtures/wan_lora
wan() { "$python" tests/interop/wan_files.py "$@"; }

"$zoetrope" convert "$original" "$work/diffusers" --quiet > /dev/null || failed=1
accepts diffusers_loads_what_was_the_originals wan loads "$work/diffusers" "$original"
"$zoetrope" convert "$work/diffusers" "$work/comfyui.safetensors" --names comfyui --quiet > /dev/null || failed=1
accepts diffusers_converts_our_comfyui_file_back wan single "$work/comfyui.safetensors" "$work/diffusers"
accepts diffusers_saves_a_model wan save "$work/theirs"
"$zoetrope" convert "$work/theirs" "$work/there" --quiet > /dev/null || failed=1
"$zoetrope" convert "$work/there" "$work/back" --quiet > /dev/null || failed=1
accepts its_files_come_back_as_they_were diff -r -x config.json "$work/theirs" "$work/back"

wan base "$work/base" "$lora/base.safetensors" > /dev/null 2>&1 || failed=1
mkdir "$work/diffusers-lora" "$work/comfyui-lora"
for to in diffusers-lora/pytorch_lora_weights.safetensors peft-lora comfyui-lora/comfyui.safetensors; do
    style=${to%%-*}
    "$zoetrope" convert "$lora/diffusers.safetensors" "$work/$to" --lora-of "$work/base" --names "$style" > /dev/null || failed=1
    accepts "peft_merges_our_${style}_file" wan lora $style "$work/$style-lora" "$work/base" \
        "$lora/expected_diffusers.safetensors"
done
exit $failed
