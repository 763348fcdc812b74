#!/bin/bash
# Every configuration of configs/ loads on any machine, and its printed form loads to the same.
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
# shellcheck source=tests/e2e/configs_support.sh
. tests/e2e/configs_support.sh

for file in configs/*.yaml; do
    name=$(basename "$file" .yaml)
    base=$(base_of "$file")
    attempt 1 train "$file" --print-config ${base:+"$base"}
    cp "$work/stdout" "$work/$name.yaml"
    attempt 1 train "$work/$name.yaml" --print-config
    if [ "$code" = 0 ] && [ -s "$work/stdout" ] && cmp -s "$work/stdout" "$work/$name.yaml"; then
        ok "${name}_loads_and_prints_what_loads_to_the_same"
    else not_ok "${name}_loads_and_prints_what_loads_to_the_same" "code $code: $said"; fi
done

# with little memory, as nothing of the model may be allocated for this
(ulimit -v 4000000 && "$ZOETROPE" train configs/wan-14b-128gpu.yaml --print-config > "$work/14b.txt")
if grep -q '^  num_layers: 40$' "$work/14b.txt" && grep -q '^  tensor: 8$' "$work/14b.txt"; then
    ok a_job_of_128_devices_is_printed_on_a_laptop
else not_ok a_job_of_128_devices_is_printed_on_a_laptop "$(tail -n 1 "$work/14b.txt")"; fi

if [ "$(for file in configs/*.yaml; do base_of "$file"; done | wc -l)" = 4 ]; then ok fine_tuning_has_four_files
else not_ok fine_tuning_has_four_files "not all name a model whose configurations are here"; fi

# a model directory that is not there yet is named
attempt 1 train configs/wan-14b-lora.yaml --print-config
if [ "$code" != 0 ] && [[ $said == *models/Wan2.1-T2V-14B-Diffusers* ]]; then ok a_base_that_is_not_there_is_named
else not_ok a_base_that_is_not_there_is_named "code $code: $said"; fi

mpirun -n 2 "$ZOETROPE" train configs/tiny.yaml --print-config > "$work/two.txt" 2> "$work/stderr"
if cmp -s "$work/two.txt" "$work/tiny.yaml"; then ok two_ranks_print_it_once
else not_ok two_ranks_print_it_once "$(wc -l < "$work/two.txt") lines"; fi

attempt 1 train configs/tiny.yaml --print-config train.steps=777 parallel.tensor=2
if grep -q '^  steps: 777$' "$work/stdout" && grep -q '^  tensor: 2$' "$work/stdout"; then
    ok overrides_are_in_the_printed_form
else not_ok overrides_are_in_the_printed_form "code $code: $said"; fi
