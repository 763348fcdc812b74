# Sourced by the scripts that train on many meshes: which, and what to type for each.
# shellcheck shell=bash
# shellcheck disable=SC2034  # read by the scripts that source this

# `tiny` with as many blocks and heads, for the meshes to divide, of a quarter of the width: what is cut,
# sent and summed is the same, and the arithmetic between takes an eighth of the time
narrow=(model.attention_head_dim=8 model.ffn_dim=128 text.max_length=24)

# data x tensor x pipeline x context (x ulysses), then keys without "parallel."
rows="
1x1x1x1
1x1x1x1 recompute=elementwise
1x1x1x1 recompute=block
2x1x1x1 zero=0
2x1x1x1 zero=1
1x2x1x1 recompute=block
1x1x2x1 schedule=gpipe
1x1x2x1 schedule=interleaved chunks_per_rank=3
1x1x2x1 schedule=zero_bubble
1x1x1x2x2
1x1x1x2x1
4x1x1x1
1x4x1x1
1x1x4x1 schedule=zero_bubble
1x1x1x4x2
2x2x1x1
2x1x2x1 schedule=1f1b
1x2x2x1 schedule=interleaved chunks_per_rank=2
1x2x1x2 recompute=elementwise
1x1x2x2 schedule=gpipe
2x1x1x2x1
2x2x2x1
1x2x2x2 zero=0
2x1x2x2x1 schedule=zero_bubble
8x1x1x1
1x8x1x1"

# describe_mesh MESH KEYS: sets name, ranks and args, the keys of the command line
describe_mesh() {
    local d t p c u key
    IFS=x read -r d t p c u <<< "$1"
    name=$(echo "$1${2:+ $2}" | tr ' =' '__')
    ranks=$((d * t * p * c))
    args=("parallel.data=$d" "parallel.tensor=$t" "parallel.pipeline=$p" "parallel.context=$c")
    [ -z "$u" ] || args+=("parallel.ulysses=$u")
    for key in $2; do args+=("parallel.$key"); done
}
