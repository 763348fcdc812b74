#!/bin/bash
# Model folders that are not what they should be: sampling names the file, the tensor and what is
# wrong, code 3, on one rank and on two, before it believes any length in the file.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok bad_model "no dataset"; exit 1; }
attempt 1 "${small_train[@]}" train.steps=2
[ "$code" = 0 ] || { not_ok bad_model "no model: $said"; exit 1; }
whole=$work/whole
cp -r "$work/run/checkpoints/step-00000002" "$whole"
# a model as users publish one: without averaged weights, optimizer and checksums
rm -r "$whole"/{transformer_ema,text_encoder_ema,optimizer,manifest.json,state.json,config.yaml}
weights=transformer/diffusion_pytorch_model.safetensors

# ---- writing safetensors ---------------------------------------------------------------------------

# length_word N: eight bytes, lowest first
length_word() {
    local n=$1 i
    for ((i = 0; i < 8; i++)); do printf %b "\\x$(printf %02x $((n & 255)))"; n=$((n >> 8)); done
}
header_length() { od -An -t u8 -N 8 "$1" | tr -d ' '; }
# rewrite FILE SED-PROGRAM: the header through sed, the data as they are
rewrite() {
    local n header
    n=$(header_length "$1")
    header=$(head -c $((8 + n)) "$1" | tail -c "$n" | sed -E "$2")
    [ "$header" = "$(head -c $((8 + n)) "$1" | tail -c "$n" | sed -E '')" ] && not_ok rewrite "$2 changes nothing"
    { length_word ${#header}; printf %s "$header"; tail -c +$((9 + n)) "$1"; } > "$work/rewritten"
    mv "$work/rewritten" "$1"
}
# set_length FILE N: the header says it is that long
set_length() { length_word "$2" | dd of="$1" conv=notrunc status=none; }
data_bytes() { echo $(($(stat -c %s "$1") - 8 - $(header_length "$1"))); }

# fresh: a new copy of the model in $copy, its weights in $file
fresh() {
    copy=$work/copy
    file=$copy/$weights
    rm -rf "$copy"
    cp -r "$whole" "$copy"
}
# bad NAME PATTERN: sampling from the copy is refused
bad() {
    refused "$1" 3 "$2" infer --model "$copy" --prompt "a ball" --out "$work/ball.mp4" "${small_video[@]}"
}

fresh
works the_model_itself_works infer --model "$copy" --prompt "a ball" --out "$work/ball.mp4" "${small_video[@]}"
rm -f "$work/ball.mp4"

# ---- tensors ---------------------------------------------------------------------------------------

fresh
last='"proj_out.bias":\{[^}]*\}'
read -r begin end < <(head -c $((8 + $(header_length "$file"))) "$file" | grep -aoE "$last" |
    sed -E 's/.*\[([0-9]+),([0-9]+)\].*/\1 \2/')
rewrite "$file" "s/,$last//"
truncate -s -$((end - begin)) "$file"
bad missing_tensor "copy/transformer: tensor proj_out.bias is missing"
fresh
end=$(data_bytes "$file")
rewrite "$file" "s/\}\} *\$/},\"surprise\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[$end,$((end + 16))]}}/"
printf '%016d' 0 >> "$file"
bad extra_tensor "copy/$weights*surprise"
fresh
rewrite "$file" 's/("scale_shift_table":\{"dtype":"F32","shape":\[)1,2,/\12,1,/'
bad wrong_shape "copy/$weights*scale_shift_table*2, 1, 32*1, 2, 32"
fresh
rewrite "$file" 's/("scale_shift_table":\{"dtype":")F32/\1I32/'
bad wrong_dtype "copy/$weights*scale_shift_table*I32"
fresh
rewrite "$file" 's/"proj_out.bias"/"proj_out.weight"/'
bad tensor_given_twice "copy/$weights*proj_out.weight"
fresh
# the first value becomes the one that is no number
printf '\x00\x00\xc0\x7f' | dd of="$file" bs=1 seek=$((8 + $(header_length "$file"))) conv=notrunc status=none
bad value_that_is_no_number "copy/$weights*patch_embedding.weight"

# ---- the header ------------------------------------------------------------------------------------

sizes=1
for length in 9223372036854775807 -1 100000001 99999999 0 1; do
    fresh
    set_length "$file" $length
    bad "header_length_of_$length" "copy/$weights*"
done
sizes="1 2"
fresh
set_length "$file" $(($(stat -c %s "$file")))
bad header_length_of_the_whole_file "copy/$weights*header"
fresh
rewrite "$file" 's/("patch_embedding.bias":\{[^}]*"data_offsets":\[)([0-9]+),([0-9]+)/\10,128/'
bad offsets_that_overlap "copy/$weights*patch_embedding*"
sizes=1
fresh
rewrite "$file" 's/("patch_embedding.bias":\{[^}]*"data_offsets":\[)([0-9]+),([0-9]+)/\199999999999,99999999999/'
bad offsets_beyond_the_file "copy/$weights*patch_embedding.bias"
fresh
rewrite "$file" 's/("patch_embedding.bias":\{[^}]*"data_offsets":\[)([0-9]+),([0-9]+)/\1\3,\2/'
bad offsets_that_run_backwards "copy/$weights*patch_embedding.bias"
fresh
rewrite "$file" 's/("patch_embedding.bias":\{[^}]*"shape":\[)32/\14611686018427387904,4/'
bad shape_that_overflows "copy/$weights*patch_embedding.bias"
fresh
rewrite "$file" 's/("patch_embedding.bias":\{[^}]*"shape":\[)32/\1-32/'
bad negative_shape "copy/$weights*patch_embedding.bias"
fresh
rewrite "$file" 's/"dtype":"F32"/"dtype":"F99"/'
bad unknown_dtype "copy/$weights*F99"
fresh
rewrite "$file" 's/^\{/[/'
bad header_that_is_no_json "copy/$weights*"
for cut in 4 100 5000 -1; do
    fresh
    size=$cut
    ((cut < 0)) && size=$(($(stat -c %s "$file") + cut))
    truncate -s $size "$file"
    bad "file_cut_to_$cut" "copy/$weights*"
done
fresh
echo more >> "$file"
bad bytes_after_the_last_tensor "copy/$weights*"

# ---- the folder ------------------------------------------------------------------------------------

sizes="1 2"
fresh
rm "$file"
bad missing_weights "copy/transformer*"
fresh
rm "$copy/transformer/config.json"
bad missing_config "copy/transformer/config.json*"
sizes=1
fresh
rm "$copy/model_index.json"
bad missing_index "copy*model_index.json"
fresh
rm -r "$copy/text_encoder"
bad missing_text_encoder "copy*text_encoder"
fresh
rm -r "$copy/codec"
bad missing_codec "copy: has neither codec"
for part in model_index.json transformer/config.json text_encoder/config.json codec/config.json; do
    name=$(tr /. __ <<< "$part")
    fresh
    sed -i 's/,$//' "$copy/$part"
    bad "${name}_that_is_no_json" "copy/$part*"
    fresh
    : > "$copy/$part"
    bad "${name}_that_is_empty" "copy/$part*"
done
# KEY VALUE PATTERN: in place of what is there; the message names it
while read -r key value names; do
    fresh
    sed -i -E "s/(\"$key\": ).*(,?)\$/\1$value,/" "$copy/transformer/config.json"
    bad "config_with_${key}_$(tr -c 'a-z0-9\n' _ <<< "$value")" "copy*$names"
done <<< 'num_layers 3 blocks.2.scale_shift_table is missing
num_layers 0 num_layers
num_layers -1 num_layers
num_layers 1e18 num_layers
num_layers 2.5 num_layers
num_layers "two" num_layers
num_layers 1000000000 num_layers
num_attention_heads 0 num_attention_heads
attention_head_dim 15 attention_head_dim
ffn_dim 96 ffn.net.0.proj.weight*64*96
in_channels 16 in_channels
qk_norm "none" qk_norm'
fresh
sed -i 's/"channels": 48/"channels": 16/' "$copy/codec/config.json"
bad codec_of_other_channels "copy/codec*"
fresh
flip=$copy/codec/linear_codec.safetensors
printf '\xff' | dd of="$flip" bs=1 seek=5000 conv=notrunc status=none
bad codec_with_a_flipped_byte "copy/codec*"

sizes="1 2"
if [ ! -e "$work/ball.mp4" ]; then ok refused_models_leave_no_video
else not_ok refused_models_leave_no_video "$(ls -l "$work/ball.mp4")"; fi
