#!/bin/bash
# `zoetrope convert`: there and back gives the same bytes, for files that PyTorch's libraries wrote and
# for ours, whole pipelines too; what is not a Wan model, or not whole, is refused with one line and
# leaves nothing under a final name.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/e2e/refuse_support.sh
source tests/e2e/refuse_support.sh
sizes=1
original=tests/fixtures/wan_original
base=diffusion_pytorch_model
make_model=$(dirname "$ZOETROPE")/tests/bench/bench_make_model
small=(--layers 3 --heads 2 --head-dim 16 --ffn 48 --text-dim 24 --shard-mb 0.06)

# same NAME A B: the same files with the same bytes
same() {
    local why
    why=$(diff -r "$2" "$3" 2>&1 | head -n 1)
    if [ -z "$why" ]; then ok "$1"; else not_ok "$1" "$why"; fi
}
# converts FROM TO OPTION...: must work; the line on standard output is TO
converts() {
    attempt 1 convert "$@"
    [ "$code" = 0 ] && [ "$(cat "$work/stdout")" = "$2" ] && return
    not_ok "converting_$(basename "$2")" "code $code: $said"
}
# weights DIR...: tensors and elements, as inspect counts them
weights() { "$ZOETROPE" inspect "$1" | grep -E '^(tensor count|elements|dtype)'; }

# ---- there and back --------------------------------------------------------------------------------

converts "$original" "$work/d"
converts "$work/d" "$work/o"
same what_pytorch_wrote_comes_back_as_it_was "$original" "$work/o"
if [ "$(find "$work/d" -name "$base-0000?-of-00003.safetensors" | wc -l)" = 3 ] && [ "$(weights "$work/d")" = "$(weights "$original")" ]
then ok files_are_kept; else not_ok files_are_kept "$(find "$work/d")"; fi

"$make_model" "$work/m" "${small[@]}" || not_ok making_a_model "code $?"
converts "$work/m/transformer" "$work/ours_o"
converts "$work/ours_o" "$work/ours_d"
rm "$work/ours_d/config.json"
cp "$work/m/transformer/config.json" "$work/ours_d"
# our own index is in the order of the tensors, this one in that of the alphabet
rm "$work/ours_d/$base.safetensors.index.json"
cp "$work/m/transformer/$base.safetensors.index.json" "$work/ours_d"
same what_we_wrote_comes_back_as_it_was "$work/m/transformer" "$work/ours_d"

converts "$work/d" "$work/comfy.safetensors" --names comfyui
converts "$work/comfy.safetensors" "$work/plain.safetensors" --names original
converts "$work/plain.safetensors" "$work/comfy2.safetensors" --names comfyui
same one_file_comes_back_as_it_was "$work/comfy.safetensors" "$work/comfy2.safetensors"
if head -c 4000 "$work/comfy.safetensors" | grep -qa '"model.diffusion_model.text_embedding.0.bias"'
then ok comfyui_names_have_their_prefix; else not_ok comfyui_names_have_their_prefix "no such name"; fi
converts "$work/comfy.safetensors" "$work/unfolded" --heads 2
converts "$work/unfolded" "$work/one.safetensors" --names diffusers
converts "$work/d" "$work/one2.safetensors" --names diffusers
same a_file_and_a_folder_hold_the_same "$work/one.safetensors" "$work/one2.safetensors"
same a_configuration_is_found_in_the_shapes "$work/d/config.json" "$work/unfolded/config.json"

# ---- types and sizes -------------------------------------------------------------------------------

converts "$work/m/transformer" "$work/half" --names diffusers --dtype bf16
converts "$work/half" "$work/full" --names diffusers --dtype f32
converts "$work/full" "$work/half2" --names diffusers --dtype bf16
same bf16_survives_f32 "$work/half" "$work/half2"
if [ "$(weights "$work/half" | tail -n 1 | tr -s ' ')" = "dtype BF16" ]; then ok every_tensor_is_bf16
else not_ok every_tensor_is_bf16 "$(weights "$work/half")"; fi
converts "$work/m/transformer" "$work/cut" --names diffusers --shard-size 30KB
converts "$work/cut" "$work/joined" --names diffusers --shard-size 1GB
converts "$work/m/transformer" "$work/whole" --names diffusers --shard-size 1GB
same shards_of_any_size_hold_the_same "$work/joined" "$work/whole"
largest=$(find "$work/cut" -name '*.safetensors' -printf '%s\n' | sort -n | tail -n 1)
if [ "$(find "$work/cut" -name '*.safetensors' | wc -l)" -gt 5 ] && [ "$largest" -lt 70000 ]
then ok no_file_is_larger_than_asked_but_for_one_tensor; else not_ok no_file_is_larger_than_asked "$largest"; fi

# ---- LoRA ------------------------------------------------------------------------------------------

lora=tests/fixtures/wan_lora
converts "$lora/base.safetensors" "$work/base" --names diffusers --heads 2
as=(--lora-of "$work/base" --names)
converts "$lora/diffusers.safetensors" "$work/lora1.safetensors" "${as[@]}" diffusers
converts "$work/lora1.safetensors" "$work/lora2.safetensors" "${as[@]}" comfyui
converts "$work/lora2.safetensors" "$work/lora3" "${as[@]}" peft
converts "$work/lora3" "$work/lora4.safetensors" "${as[@]}" diffusers
same a_lora_comes_back_through_every_name "$work/lora1.safetensors" "$work/lora4.safetensors"
if grep -qa '"diffusion_model.blocks.0.self_attn.q.lora_down.weight"' "$work/lora2.safetensors" && [ "$(cd "$work/lora3" && echo *)" = "adapter_config.json adapter_model.safetensors" ]
then ok loras_have_the_names_of_their_programs; else not_ok lora_names "$(ls "$work/lora3")"; fi

# ---- pipelines -------------------------------------------------------------------------------------

"$make_model" "$work/two" "${small[@]}" --two-experts --seed 1 || not_ok making_two_experts "code $?"
cp -r tests/fixtures/wan_tiny_random/text_encoder "$work/two"
mkdir -p "$work/two/tokenizer/deep"
echo pieces > "$work/two/tokenizer/deep/spiece.model"
echo '{}' > "$work/two/manifest.json"
echo pickle > "$work/two/Wan2.1_VAE.pth"
converts "$work/two" "$work/two_o"
if [ "$(cd "$work/two_o" && echo *)" = "high_noise_model low_noise_model model_index.json scheduler text_encoder tokenizer" ]
then ok a_pipeline_of_two_experts_is_laid_out_as_the_original; else not_ok layout "$(ls "$work/two_o")"; fi
if grep -q 'Wan2.1_VAE.pth is left out: a Python pickle' "$work/stderr" && grep -q 'manifest.json is left out' "$work/stderr"
then ok what_is_left_out_is_said; else not_ok what_is_left_out_is_said "$(cat "$work/stderr")"; fi
grep -qa '"blocks.0.attn.q.weight"' "$work/two_o/text_encoder/model.safetensors" || not_ok text_encoder_names "not the original's"
converts "$work/two_o" "$work/two_d"
rm "$work/two/manifest.json" "$work/two/Wan2.1_VAE.pth"
for folder in two two_d; do rm -f "$work/$folder"/transformer*/{config.json,*.index.json}; done
same a_whole_pipeline_comes_back_as_it_was "$work/two" "$work/two_d"

# ---- what is refused -------------------------------------------------------------------------------

# bad NAME CODE TEXT FROM OPTION...
bad() {
    local name=$1 want=$2 text=$3 from=$4
    shift 4
    refused "$name" "$want" "$text" convert "$from" "$work/no" "$@"
    [ ! -e "$work/no" ] || not_ok "$name" "TO is there"
}
# fresh: a copy of the original's folder in $copy
fresh() { copy=$work/copy; rm -rf "$copy"; cp -r "$original" "$copy"; }
# edit FILE FROM TO: texts of the same length in a header
edit() {
    [ ${#2} = ${#3} ] || not_ok edit "$2 and $3"
    grep -qaF -- "$2" "$1" || not_ok edit "$2 is not in $1"
    LC_ALL=C sed -i "s|$(sed 's/[]*.^$[]/\\&/g' <<< "$2")|$3|" "$1"
}
index=$base.safetensors.index.json second=$base-00002-of-00003.safetensors third=$base-00003-of-00003.safetensors

fresh; rm "$copy/$second"
bad a_missing_shard 3 "$second: open: No such file" "$copy"
fresh; edit "$copy/$index" "$base-00001-of-00003.safetensors" "../fusion_pytorch_model-00001-of-3.st_____________"
bad an_index_that_leads_out_of_its_folder 3 "which is not a plain file name" "$copy"
fresh; edit "$copy/$third" '"blocks.1.norm3.bias"' '"blocks.1.normX.bias"'; edit "$copy/$index" '"blocks.1.norm3.bias"' '"blocks.1.normX.bias"'
bad a_tensor_of_another_name 3 "tensor blocks.1.norm3.bias of a Wan transformer is missing" "$copy"
fresh; edit "$copy/$third" '"shape":[12,8]' '"shape":[8,12]'
bad a_tensor_of_another_shape 3 "tensor blocks.1.ffn.0.weight is " "$copy"
fresh; edit "$copy/config.json" '"num_layers": 2' '"num_layers": 3'
bad a_configuration_of_another_model 3 'config.json: "num_layers" is 3, the tensors make it 2' "$copy"
cp "$work/comfy.safetensors" "$work/twice.safetensors"
edit "$work/twice.safetensors" '"model.diffusion_model.blocks.0.norm3.bias":' '"blocks.0.norm3.weight":                    '
bad two_tensors_of_one_name 3 "two tensors have the name blocks.0.norm3.weight" "$work/twice.safetensors"
cp "$work/plain.safetensors" "$work/other.safetensors"
edit "$work/other.safetensors" '"time_embedding.0.weight"' '"tame_embedding.0.weight"'
bad what_is_no_wan_model 3 "are no Wan transformer, VAE or umT5 encoder" "$work/other.safetensors"
edit "$work/other.safetensors" '"tame_embedding.0.weight"' '"time_embedding.0.weight"'
edit "$work/other.safetensors" '"dtype":"BF16"' '"dtype":"I16" '
bad a_type_that_is_not_converted 3 "is I16; F32, BF16 and F16 are converted" "$work/other.safetensors" --heads 2
bad heads_that_nobody_tells 2 "say how many with --heads" "$work/plain.safetensors"
bad heads_that_do_not_divide 2 "--heads 3 does not divide the width of 8" "$work/plain.safetensors" --heads 3
bad a_size_that_is_none 2 "--shard-size 5 apples" "$original" --shard-size "5 apples"
echo pickle > "$work/Wan2.1_VAE.pth"
bad a_pickle 3 "is a Python pickle, which may run code" "$work/Wan2.1_VAE.pth"
mkdir "$work/pickles" && cp "$work/Wan2.1_VAE.pth" "$work/pickles"
bad a_folder_of_pickles 3 "Wan2.1_VAE.pth: is a Python pickle" "$work/pickles"
bad a_folder_without_weights 3 "no folder of it holds a part of a Wan model" "$work/m/scheduler"
bad what_is_absent 3 "nowhere: no such file or folder" "$work/nowhere"
refused a_target_that_is_there 2 "is there already" convert "$original" "$work/d"
refused a_target_in_no_folder 3 "there is no folder" convert "$original" "$work/absent/x"
refused a_pipeline_in_one_file 2 "only one component goes into one file" convert "$work/m" "$work/no.safetensors"
refused a_lora_of_no_model 3 "are no Wan transformer, VAE or umT5 encoder" convert "$work/lora1.safetensors" "$work/no.safetensors"
refused a_lora_under_no_names 2 "say --names" convert "$work/lora1.safetensors" "$work/no.safetensors" --lora-of "$work/base"
refused a_lora_of_peft_in_a_file 2 "is a folder" convert "$work/lora1.safetensors" "$work/no.safetensors" "${as[@]}" peft
refused a_lora_cut_into_shards 2 "are for models" convert "$work/lora1.safetensors" "$work/no.safetensors" "${as[@]}" comfyui --shard-size 1GB
refused a_lora_of_unsaid_type 2 "written in f32 or bf16" convert "$work/lora1.safetensors" "$work/no.safetensors" "${as[@]}" comfyui --dtype keep
refused weights_of_no_checkpoint 2 "is no checkpoint" convert "$work/m" "$work/no" --names original --weights ema
refused a_lora_of_another_model 3 "lora1.safetensors" convert "$work/lora1.safetensors" "$work/no.safetensors" --lora-of "$work/m" --names comfyui
refused peft_without_a_lora 2 "give --lora-of MODEL" convert "$original" "$work/no" --names peft

# values above 65504 have no F16: 0x47c35000 is 100000
cp -r "$work/whole" "$work/large"
printf '\x00\x50\xc3\x47' | dd of="$work/large/$base.safetensors" conv=notrunc status=none bs=1 \
    seek=$(($(stat -c %s "$work/large/$base.safetensors") - 4))
bad a_value_that_f16_cannot_hold 3 "holds 100000, F16 ends at 65504: use --dtype bf16" "$work/large" --dtype f16

# a limit on the size of files stands for a full disk
bash -c 'ulimit -f 20; exec "$0" convert "$1" "$2"' "$ZOETROPE" "$work/whole" "$work/no" > /dev/null 2> "$work/stderr"
code=$?
said=$(grep -a '^zoetrope: ' "$work/stderr")
why=$(trouble 3 "write: File too large")
if [ -z "$why" ] && [ ! -e "$work/no" ]; then ok a_full_disk_leaves_nothing; else not_ok a_full_disk_leaves_nothing "$why"; fi

# a signal ends it between two pieces, with code 75 and nothing left
"$make_model" "$work/long" --preset small --layers 12 || not_ok making_a_long_model "code $?"
"$ZOETROPE" convert "$work/long/transformer" "$work/no" > /dev/null 2> "$work/stderr" &
for _ in $(seq 500); do [ -e "$work/no.partial" ] && break; sleep 0.01; done
kill -TERM $!
wait $!
code=$?
said=$(grep -a '^zoetrope: ' "$work/stderr")
if [ $code = 75 ] && [ ! -e "$work/no" ] && [ ! -e "$work/no.partial" ] && grep -q 'stopped by a signal' <<< "$said"
then ok a_signal_leaves_nothing; else not_ok a_signal_leaves_nothing "code $code: $said"; fi
# killed, it leaves what the next run removes
"$ZOETROPE" convert "$work/long/transformer" "$work/no" > /dev/null 2>&1 &
for _ in $(seq 500); do [ -e "$work/no.partial" ] && break; sleep 0.01; done
kill -KILL $!
wait $! 2> /dev/null
if [ ! -e "$work/no" ]; then ok a_kill_leaves_nothing_of_that_name; else not_ok a_kill_leaves_nothing_of_that_name "TO is there"; fi
converts "$work/long/transformer" "$work/no"
if [ ! -e "$work/no.partial" ]; then ok the_next_run_clears_up; else not_ok the_next_run_clears_up "$(ls "$work")"; fi
