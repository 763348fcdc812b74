"""What diffusers and peft make of files that zoetrope wrote.

wan_files.py loads FOLDER ORIGINAL | single FILE FOLDER | save FOLDER | base FOLDER WEIGHTS |
             lora STYLE FOLDER BASE EXPECTED
"""

import glob
import logging
import os
import sys

import diffusers
import torch
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_wan_lora_to_diffusers
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file

logging.disable(logging.WARNING)


def convert(state):
    """diffusers' converter; the position of image tokens is known to its script for folders only."""
    positions = state.pop("img_emb.emb_pos", None)
    if positions is None:
        positions = state.pop("model.diffusion_model.img_emb.emb_pos", None)
    out = convert_wan_transformer_to_diffusers(state)
    if positions is not None:
        out["condition_embedder.image_embedder.pos_embed"] = positions
    return out


def same(a, b):
    assert set(a) == set(b), set(a) ^ set(b)
    for name, value in a.items():
        assert torch.equal(value.float(), b[name].float()), name
    print(f"{len(a)} tensors, all equal")


def read_folder(folder):
    state = {}
    for path in sorted(glob.glob(f"{folder}/*.safetensors")):
        state |= load_file(path)
    return state


def loads(folder, original):
    model, info = diffusers.WanTransformer3DModel.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    same(model.state_dict(), convert(read_folder(original)))


def single(path, folder):
    same(convert(load_file(path)), read_folder(folder))


def save(folder):
    torch.manual_seed(1)
    model = diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=8,
        freq_dim=8, ffn_dim=20, num_layers=3)
    model.save_pretrained(folder, max_shard_size="20KB")
    print(f"{len(os.listdir(folder))} files")


def base(folder, weights):
    model = diffusers.WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=6, in_channels=4, out_channels=2, text_dim=5,
        freq_dim=4, ffn_dim=16, num_layers=2, image_dim=3, added_kv_proj_dim=12, rope_max_seq_len=16)
    model.load_state_dict(load_file(weights))
    model.save_pretrained(folder)


def merge(style, folder, model):
    if style == "peft":
        from peft import PeftModel

        return PeftModel.from_pretrained(model, folder).double().merge_and_unload()
    if style == "diffusers":
        model.load_lora_adapter(folder, weight_name="pytorch_lora_weights.safetensors",
                                prefix="transformer")
    else:
        state = load_file(f"{folder}/comfyui.safetensors")
        # the one layer beside the blocks whose alpha diffusers' converter does not take
        alpha = state.pop("diffusion_model.time_projection.1.alpha")
        down = state["diffusion_model.time_projection.1.lora_down.weight"]
        down *= alpha / down.shape[0]
        model.load_lora_adapter(_convert_non_diffusers_wan_lora_to_diffusers(state),
                                prefix="transformer")
    model = model.double()
    model.fuse_lora()
    model.unload_lora()
    return model


def lora(style, folder, base_folder, expected):
    model = diffusers.WanTransformer3DModel.from_pretrained(base_folder)
    state = merge(style, folder, model).state_dict()
    wanted = load_file(expected)
    worst = max((state[name].double() - value.double()).abs().max().item()
                for name, value in wanted.items())
    assert worst < 1e-6, worst
    print(f"{len(wanted)} merged weights, {worst:.1e} off at most")


if __name__ == "__main__":
    torch.set_num_threads(1)
    globals()[sys.argv[1]](*sys.argv[2:])
