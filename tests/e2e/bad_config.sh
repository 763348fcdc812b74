#!/bin/bash
# Configurations that cannot be: one line with file, line, column, key and the nearest name, code 2,
# on one rank and on two; and meshes that fit no model, with the nearest legal ones.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
make_dataset || { not_ok bad_config "no dataset"; exit 1; }

# config TEXT: a configuration whose line 5 and the following are TEXT
config() {
    printf 'run:\n  dir: %s\ndata:\n  train: %s\n%b\n' "$work/run" "$data" "$1" > "$work/c.yaml"
}
# bad NAME TEXT PLACE PATTERN
bad() {
    config "$2"
    refused "$1" 2 "c.yaml:$3*$4" train "$work/c.yaml"
}

bad unknown_key 'train:\n  colour: 3' 6:3 'unknown key train.colour'
bad mistyped_key_names_the_nearest 'train:\n  stpes: 3' 6:3 'unknown key train.stpes; did you mean train.steps?'
bad mistyped_section_names_the_nearest 'paralel:\n  tensor: 2' 5:1 'unknown key paralel; did you mean parallel'
bad duplicated_key 'train:\n  steps: 3\n  steps: 4' 7:3 'train.steps is given twice; first on line 6'
sizes=1
bad key_in_the_wrong_section 'lr: 3' 5:1 'unknown key lr; did you mean train.lr?'
bad duplicated_section 'train:\n  steps: 3\ntrain:\n  lr: 1' 7:1 'train is given twice; first on line 5'
bad out_of_range 'train:\n  steps: 0' 6:10 'train.steps: 0 is out of range 1 to'
bad out_of_range_real 'train:\n  caption_drop: 1.5' 6:17 'train.caption_drop: 1.5 is out of range 0 to 1'
bad wrong_type 'train:\n  steps: many' 6:10 "train.steps: 'many' is not a whole number"
bad number_beyond_64_bits 'train:\n  steps: 99999999999999999999' 6:10 'train.steps'
bad word_not_among_the_choices 'train:\n  schedule: cosin' 6:13 'did you mean cosine?'
bad list_where_a_number_belongs 'train:\n  steps: [1]' 6:10 'expected a whole number, not a list'
bad list_too_short 'train:\n  betas: [0.9]' 6:14 'takes 2'
bad value_where_a_section_belongs 'train: 3' 5:8 'expected a section'
bad anchors_are_refused 'train:\n  steps: &x 3' 6:10 'anchors and aliases'
bad aliases_are_refused 'train:\n  steps: *x' 6:10 'anchors and aliases'
bad tabs_are_no_indentation 'train:\n\tsteps: 3' 6:1 'not valid YAML'
bad unknown_preset 'model:\n  preset: tinny' " " "there are tiny, small"

config 'train:\n  warmup: 9\n  steps: 8'
refused keys_that_contradict_each_other 2 'train.warmup 9 is longer than train.steps 8' train "$work/c.yaml"
printf 'run:\n  dir: "a\xff"\n' > "$work/latin.yaml"
refused file_that_is_not_utf8 2 'latin.yaml' train "$work/latin.yaml"
head -c 2000000 /dev/zero | tr '\0' '#' > "$work/long.yaml"
refused file_too_long 2 'long.yaml' train "$work/long.yaml"
refused absent_file 3 "$work/no.yaml" train "$work/no.yaml"
refused folder_as_file 3 "$work" train "$work"

sizes="1 2"
refused no_file_at_all 2 'CONFIG.yaml' train
refused unknown_option 2 '--print-confg' train configs/tiny.yaml --print-confg
refused override_of_a_mistyped_key 2 "argument 'train.stpes=3': unknown key train.stpes; did you mean train.steps?" \
    train configs/tiny.yaml train.stpes=3
sizes=1
refused override_out_of_range 2 'parallel.tensor' train configs/tiny.yaml parallel.tensor=0
refused more_clips_than_a_pass_takes 2 'data.micro_batch: 257 is out of range 1 to 256' \
    train configs/tiny.yaml data.batch=300 data.micro_batch=257
refused override_without_a_value 2 'train.steps' train configs/tiny.yaml train.steps
refused override_of_a_section 2 'train' train configs/tiny.yaml train=3
refused override_of_the_wrong_type 2 'train.steps' train configs/tiny.yaml train.steps=x
refused file_after_the_file 2 'configs/small-1gpu.yaml' train configs/tiny.yaml configs/small-1gpu.yaml

# ---- meshes --------------------------------------------------------------------------------------

t() { small_mesh=("${small_train[@]}" "$@"); }
sizes="2 4"
t parallel.tensor=3
refused tensor_that_does_not_divide_the_heads 2 'tensor 3 does not divide num_attention_heads 2' "${small_mesh[@]}"
t parallel.pipeline=3
refused pipeline_longer_than_the_model 2 'pipeline 3 is more than num_layers 2' "${small_mesh[@]}"
t parallel.data=3
refused mesh_of_other_ranks_than_there_are 2 'nearest legal' "${small_mesh[@]}"
sizes=4
t parallel.tensor=4
refused the_nearest_legal_mesh_is_named 2 'nearest legal for 4 ranks: ' "${small_mesh[@]}"
sizes=1
t parallel.tensor=2
refused mesh_of_more_ranks_than_one 2 'nearest legal for 1 rank: 1x1x1' "${small_mesh[@]}"
t data.batch=1
sizes=2
refused replicas_without_a_clip 2 'data.batch' "${small_mesh[@]}"

# ---- context, schedules, exact numerics ------------------------------------------------------------

# 12 tokens, 2 heads, 2 layers
sizes=4
t parallel.context=4 parallel.ulysses=3
refused ulysses_that_does_not_divide_context 2 'ulysses 3 does not divide context 4' "${small_mesh[@]}"
t parallel.context=4 parallel.ulysses=4
refused ulysses_that_does_not_divide_the_heads 2 'ulysses 4 does not divide the 2 heads' "${small_mesh[@]}"
sizes=13
t parallel.context=13
refused more_context_ranks_than_tokens 2 'tensor 1 x context 13 is more than the 12 tokens' "${small_mesh[@]}"
sizes="1 2"
t parallel.pipeline=2 parallel.chunks_per_rank=2
refused chunks_without_interleaving 2 'parallel.chunks_per_rank 2 needs parallel.schedule interleaved' "${small_mesh[@]}"
t parallel.pipeline=2 parallel.schedule=interleaved
refused interleaving_without_chunks 2 'needs parallel.chunks_per_rank of 2 or more' "${small_mesh[@]}"
t parallel.pipeline=2 parallel.schedule=zero_bubble parallel.recompute=block
refused zero_bubble_with_recompute 2 'parallel.recompute must be none' "${small_mesh[@]}"
sizes=2
t parallel.pipeline=2 parallel.schedule=interleaved parallel.chunks_per_rank=2
refused more_chunks_than_layers 2 'pipeline 2 x 2 chunks a rank is more than num_layers 2' "${small_mesh[@]}"
t parallel.data=2 parallel.schedule=interleaved parallel.chunks_per_rank=2
refused chunks_without_a_pipeline 2 '2 chunks a rank need a pipeline of 2 or more' "${small_mesh[@]}"

exact() { small_mesh=("${small_train[@]}" numerics=exact "$@"); }
sizes=3
exact parallel.tensor=3 model.num_attention_heads=3 model.attention_head_dim=32 model.ffn_dim=96
refused exact_tensor_that_does_not_divide_the_chunks 2 'tensor 3 x context 1 does not divide the 8 chunks' "${small_mesh[@]}"
exact parallel.data=3
refused exact_data_that_does_not_divide_the_chunks 2 'data 3 does not divide the 8 chunks' "${small_mesh[@]}"
sizes="1 2"
exact parallel.chunks=3
refused exact_chunks_that_are_no_power_of_two 2 'parallel.chunks is 3' "${small_mesh[@]}"
exact model.attention_head_dim=10
refused exact_width_that_chunks_do_not_divide 2 'parallel.chunks 8 does not divide the width 20' "${small_mesh[@]}"
if [ ! -e "$work/run" ]; then ok refused_runs_leave_no_folder
else not_ok refused_runs_leave_no_folder "$(find "$work/run" | head -n 5)"; fi

# the launcher ends all ranks when one leaves with a code: the line must have been said by then
why=""
for ((i = 0; i < 6; i++)); do
    timeout -k 5 $limit_s mpirun -n 4 "$ZOETROPE" train configs/tiny.yaml train.stpes=3 > "$work/stdout" 2> "$work/stderr"
    code=$? said=$(grep '^zoetrope: ' "$work/stderr")
    why=$(trouble 2 'did you mean')
    [ -z "$why" ] || break
done
if [ -z "$why" ]; then ok the_launcher_passes_on_one_line_and_the_code
else not_ok the_launcher_passes_on_one_line_and_the_code "$why"; fi
