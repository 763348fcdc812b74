#!/bin/bash
# Datasets and checkpoints read by other people's libraries (PyPI h5py, safetensors; where they are
# there torch, diffusers and transformers): the bytes they see are those that we recorded.
set -u
# shellcheck source=tests/interop/interop_support.sh
. "$(dirname "$0")/interop_support.sh"
needs h5py safetensors numpy
version h5py safetensors numpy
openssl ecparam -name prime256v1 -genkey -noout -out "$work/key.pem"
make_run "$work/key.pem"

accepts h5py_reads_every_clip "$python" tests/interop/readers.py clips "$work/data"
for file in "$checkpoint"/*/*.safetensors; do
    name=${file#"$checkpoint"/}
    "$zoetrope" inspect "$file" --digest --json > "$work/digests.json" || failed=1
    accepts "safetensors_reads_${name%%/*}" "$python" tests/interop/readers.py tensors "$file" "$work/digests.json"
done

if "$python" -c 'import torch, diffusers, transformers' 2> /dev/null; then
    version torch diffusers transformers
    for part in transformer transformer_ema text_encoder text_encoder_ema scheduler tokenizer; do
        accepts "diffusers_loads_$part" "$python" tests/interop/readers.py model "$checkpoint" $part
    done
else
    echo "left out: $python has no torch, diffusers or transformers"
fi
exit $failed
