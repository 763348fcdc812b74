#!/bin/bash
# `zoetrope plan` on the published models' configurations, without weights: sampling of all seven, and
# fine-tuning. Each in seconds.
# shellcheck disable=SC2317 # functions that `check` calls
set -u
cd "$(dirname "$0")/../.." || exit 1
: "${ZOETROPE:?run me through tests/run.sh}"
public=$PWD/tests/fixtures/wan_public
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; }

# plan ARG...: $work/out, $work/err, $code; with 2 GB of addresses and 5 s of processor time, as nothing is reserved
plan() {
    (
        ulimit -v 2000000 -t 5
        "$ZOETROPE" plan "$@" > "$work/out" 2> "$work/err"
    )
    code=$?
}
has() { grep -qE -- "$1" "$work/out"; }
says() { grep -qE -- "$1" "$work/err"; }
# check NAME COMMAND...: ok when it succeeds
check() {
    local name=$1
    shift
    if "$@"; then ok "$name"; else not_ok "$name" "code $code: $(head -c 600 "$work/out" "$work/err" | tr '\n' ' ')"; fi
}
# row NAME: MiB of the last one of that name
row() { awk -v name="$1" '$1 == "memory" && $2 == name { n = $3 } END { print n + 0 }' "$work/out"; }
# between A B C: A <= B <= C
between() { awk -v a="$1" -v b="$2" -v c="$3" 'BEGIN { exit !(a <= b && b <= c) }'; }

# ---- all seven -----------------------------------------------------------------------------------

# planned MODEL PARAMETERS EXPERTS: its weights in BF16 are 2 bytes a parameter, and up to 2 % more for what stays F32
planned() {
    plan "$public/$1"
    [ "$code" = 0 ] && has "\\($1\\)" && has '^peak [0-9.]+ GiB, in rendering' || return 1
    between "$(awk "BEGIN { print $2 * $3 * 2 / 1048576 }")" "$(row weights)" "$(awk "BEGIN { print $2 * $3 * 2.04 / 1048576 }")" &&
        between 1 "$(row text_encoder)" 700 && between 1 "$(row decoding)" 11000
}
check the_smallest_is_planned planned Wan2.1-T2V-1.3B 1418996800 1
check text_to_video_is_planned planned Wan2.1-T2V-14B 14288491584 1
check image_to_video_is_planned planned Wan2.1-I2V-14B 16394878784 1
check pictures_have_phases_of_their_own has '^image_encoder, over before the weights are loaded'
check first_and_last_frames_are_planned planned Wan2.1-FLF2V-14B 16395536704 1
check both_experts_are_planned planned Wan2.2-T2V-A14B 14288491584 2
check both_experts_from_an_image_are_planned planned Wan2.2-I2V-A14B 14288901184 2
check no_image_encoder_is_counted_where_there_is_none between 0 "$(row image_encoder)" 0
check a_larger_stride_is_planned planned Wan2.2-TI2V-5B 4999787712 1
check its_own_size_is_taken has '1280x704, 121 frames: 31x44x80 latents, 27280 tokens'

# ---- meshes and limits ---------------------------------------------------------------------------

large=$public/Wan2.1-T2V-14B
plan "$large" --tensor 8 --size 1280x720 --frames 81 --memory 80
check a_14b_fits_eight_ranks [ "$code" = 0 ]
check it_says_that_it_fits has '^fits: [0-9.]+ of 80.000 GiB'
check a_rank_holds_an_eighth_of_the_matrices between 3406 "$(row weights)" 4260
plan "$large" --memory 80
check what_does_not_fit_is_named has '^does not fit: .* the largest row is activations'
check a_mesh_that_would_fit_is_named has '^would fit: --tensor [0-9]+ --pipeline [0-9]+ --context [0-9]+, 2 ranks'
IFS=' ' read -r -a mesh <<< "$(sed -nE 's/^would fit: (.*), [0-9]+ ranks.*/\1/p' "$work/out")"
wanted=$(sed -nE 's/^would fit: .* ranks, (.*) GiB/\1/p' "$work/out")
plan "$large" "${mesh[@]}" --threads "$(nproc)" --memory 80
check that_mesh_fits_as_it_was_said has "^fits: ${wanted:-?} of"
plan "$public/Wan2.2-T2V-A14B" --memory 1
check nothing_fits_is_said has '^nothing fits into 1.000 GiB'
plan "$large" --tensor 3
check a_mesh_that_is_not_legal_is_refused [ "$code" = 2 ]
check legal_ones_are_named says 'tensor 3 does not divide.*nearest|nearest.*tensor'
plan "$large" --guidance-ranks 2 --json --memory 100
check json_has_every_rank [ "$(grep -oE '"rank": ?[0-9]+' "$work/out" | wc -l)" = 2 ]
check json_says_whether_it_fits has '"fits": ?(true|false)'
plan "$large" --dtype f32
check f32_is_twice_as_much between 54500 "$(row weights)" 54510
plan "$public/Wan2.2-TI2V-5B" --size 1280x720
check sizes_are_checked [ "$code" = 2 ]
check the_nearest_size_is_named says 'multiples of 32.*1280x(704|736)'
plan "$large" parallel.tensor=2
check keys_are_for_training [ "$code" = 2 ]
check what_a_folder_takes_is_said says 'say --tensor'
plan configs/tiny.yaml --tensor 2
check sampling_options_are_not_for_training [ "$code" = 2 ]

# ---- fine-tuning ---------------------------------------------------------------------------------

# tuned CONFIG MODEL ARG...
tuned() {
    local config=$1 model=$public/$2
    shift 2
    plan "configs/$config.yaml" model.from="$model" codec.vae="$model" "$@"
}
tuned wan-14b-finetune Wan2.1-T2V-14B --size 832x480 --memory 74.5
check whole_fine_tuning_of_14b_fits has '^fits: '
check its_channels_are_the_models has '21x60x104 latents, 32760 tokens; 16 channels'
whole=$(row exp_avg)
tuned wan-14b-lora Wan2.1-T2V-14B --size 832x480 --memory 74.5
check low_rank_changes_of_14b_fit has '^fits: '
check their_moments_are_small between 1 "$(row exp_avg)" "$(awk "BEGIN { print $whole / 10 }")"
tuned wan-a14b-lora Wan2.2-T2V-A14B --size 832x480 --memory 74.5
check one_expert_fits has '^fits: '
tuned wan-a14b-lora Wan2.2-T2V-A14B model.expert=low
check the_other_expert_is_planned [ "$code" = 0 ]
tuned wan-5b-finetune Wan2.2-TI2V-5B --memory 74.5
check whole_fine_tuning_of_5b_fits has '^fits: '
check its_stride_is_the_vaes has '31x44x80 latents, 27280 tokens; 48 channels'
tuned wan-5b-finetune Wan2.2-TI2V-5B --size 1280x720
check sizes_of_its_vae_are_checked says 'multiples of 32'
tuned wan-14b-finetune Wan2.1-T2V-14B --channels 48
check other_channels_are_refused says '--channels 48.*has 16'
