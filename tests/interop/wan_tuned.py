"""Renders as zoetrope did and compares the latents: pipeline MODEL | lora MODEL LORA, NOISE OURS."""
import os
import sys

import diffusers
import torch
from safetensors.torch import load_file

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "fixtures"))
from make_wan_text import load_tokenizer  # noqa: E402


def main():
    kind, model, *rest = sys.argv[1:]
    noise, ours = (load_file(path) for path in rest[-2:])
    torch.set_num_threads(1)
    pipe = diffusers.WanPipeline.from_pretrained(
        model, tokenizer=load_tokenizer(os.path.join(model, "tokenizer")))
    if kind == "lora":
        pipe.load_lora_weights(rest[0], weight_name="pytorch_lora_weights.safetensors")
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        theirs = pipe(prompt="A red fox.", negative_prompt="blurry", height=32, width=48,
                      num_frames=9, num_inference_steps=12, guidance_scale=5.0,
                      latents=noise["noise"][None], output_type="latent").frames[0]
    mine = next(iter(ours.values()))
    differ = ((mine - theirs).norm() / theirs.norm()).item()
    print(f"latents differ by {differ:.1e}")
    sys.exit(0 if differ < 1e-4 else 1)


if __name__ == "__main__":
    main()
