"""What other libraries see of zoetrope's files, held against the digests that zoetrope recorded.

readers.py clips DATASET | tensors FILE.safetensors DIGESTS.json | model CHECKPOINT PART
"""

import glob
import hashlib
import json
import sys


def sha256(array):
    return hashlib.sha256(array.tobytes()).hexdigest()


def clips(folder):
    """Every clip's latents, by the row and the SHA-256 that its shard's index has for it."""
    import h5py

    count = 0
    for path in sorted(glob.glob(folder + "/shard-*.h5")):
        with h5py.File(path) as shard:
            buckets = sorted(shard["buckets"].keys() - {"shape"})
            for clip in range(shard.attrs["clips"]):
                bucket = shard["buckets"][buckets[shard["index/bucket"][clip]]]
                latents = bucket["latents"][shard["index/row"][clip]]
                assert sha256(latents) == shard["index/sha256"][clip].tobytes().hex(), (path, clip)
                count += 1
    assert count > 0
    print(f"{count} clips, SHA-256 as recorded")


def tensors(path, digests):
    from safetensors import safe_open

    with open(digests) as file:
        wanted = json.load(file)["tensors"]
    with safe_open(path, "numpy") as file:
        assert set(file.keys()) == set(wanted)
        for name, row in wanted.items():
            tensor = file.get_tensor(name)
            assert list(tensor.shape) == row["shape"], name
            assert sha256(tensor) == row["sha256"], name
    print(f"{len(wanted)} tensors, SHA-256 as recorded")


def load(checkpoint, part):
    """The part as its class in diffusers or transformers, and what was said about missing weights."""
    import diffusers
    import transformers

    folder = f"{checkpoint}/{part}"
    if part.startswith("transformer"):
        return diffusers.WanTransformer3DModel.from_pretrained(folder, output_loading_info=True)
    if part.startswith("text_encoder"):
        return transformers.UMT5EncoderModel.from_pretrained(folder, output_loading_info=True)
    if part == "scheduler":
        return diffusers.FlowMatchEulerDiscreteScheduler.from_pretrained(folder), {}
    return transformers.ByT5Tokenizer.from_pretrained(folder), {}


def model(checkpoint, part):
    import torch
    from safetensors.torch import load_file

    found, said = load(checkpoint, part)
    assert not any(said.values()), said
    if not isinstance(found, torch.nn.Module):
        print(f"{type(found).__name__}")
        return
    state, count = found.state_dict(), 0
    for path in glob.glob(f"{checkpoint}/{part}/*.safetensors"):
        for name, tensor in load_file(path).items():
            assert torch.equal(state[name], tensor), name
            count += 1
    print(f"{type(found).__name__}: {count} tensors, none missing, all equal")


if __name__ == "__main__":
    {"clips": clips, "tensors": tensors, "model": model}[sys.argv[1]](*sys.argv[2:])
