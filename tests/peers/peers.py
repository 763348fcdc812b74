"""`make bench-peers`: the same work by zoetrope and by PyTorch, in turns, as one table.

    python peers.py ROUNDS [TEXT]                    rows whose name has TEXT in it
    python peers.py WORK CASE eager|compiled f32|bf16 REPEATS

The second form is what the first starts for each peer, in a process of its own; it prints
"MILLISECONDS MIB": the median after warming up, and the most memory that the process had. The
classes are those people use: diffusers' Wan transformer, transformers' UMT5, torch's fused AdamW,
scaled_dot_product_attention. bf16 trains under torch.autocast with weights in f32, as training code
does, and samples with weights in bf16, as pipelines do.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

if len(sys.argv) == 6:  # the table itself needs none of them
    import torch
    from diffusers import WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

# transformer: layers, heads, head size, ffn, text width, channels; text encoder: width, kv, ff,
# layers, heads; rows of text; latents: clips, channels, frames, rows, columns
CASES = {
    "tiny": ((6, 8, 32, 1024, 128, 48), (128, 32, 256, 2, 4), 96, (8, 48, 5, 8, 8)),
    "small": ((8, 8, 64, 2048, 256, 48), (256, 32, 512, 4, 8), 128, (1, 48, 4, 32, 32)),
    "block": ((1, 12, 128, 8960, 1024, 48), None, 512, (1, 48, 4, 64, 64)),
    "wan-1.3b": ((30, 12, 128, 8960, 1024, 48), None, 512, (1, 48, 5, 36, 60)),
}
# batch, heads, tokens, head size
ATTENTION = {"attention": (1, 2, 16384, 128)}


def transformer_of(layers, heads, head_dim, ffn, text, channels):
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=heads, attention_head_dim=head_dim,
        in_channels=channels, out_channels=channels, text_dim=text, freq_dim=256, ffn_dim=ffn,
        num_layers=layers, cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6,
        rope_max_seq_len=1024)


def encoder_of(width, kv, ff, layers, heads):
    return UMT5EncoderModel(UMT5Config(
        vocab_size=384, d_model=width, d_kv=kv, d_ff=ff, num_layers=layers, num_heads=heads,
        relative_attention_num_buckets=32, relative_attention_max_distance=128, dropout_rate=0.0,
        layer_norm_epsilon=1e-6, feed_forward_proj="gated-gelu"))


def model_of(case, how, dtype):
    """Transformer and text encoder as one, as `zoetrope train` has them."""

    class Model(torch.nn.Module):
        def __init__(self, transformer, encoder):
            super().__init__()
            self.transformer, self.encoder = transformer, encoder

        def forward(self, latents, times, text):
            if self.encoder is not None:
                text = self.encoder(input_ids=text).last_hidden_state
            return self.transformer(latents, times, text, return_dict=False)[0]

    shape, encoder, rows, latent = CASES[case]
    model = Model(transformer_of(*shape), encoder_of(*encoder) if encoder else None).to(dtype)
    if encoder:
        text = torch.randint(3, 259, (latent[0], rows))
    else:
        text = torch.randn(latent[0], rows, shape[4], dtype=dtype)
    run = torch.compile(model) if how == "compiled" else model
    return model, run, torch.randn(latent, dtype=dtype), text


def training(case, how, dtype, update):
    """A step as ours: noise, forward, loss, backward; and, for a whole step, norm and AdamW."""
    model, run, clips, text = model_of(case, how, torch.float32)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, betas=(0.9, 0.95), fused=True)

    def step():
        noise, t = torch.randn_like(clips), torch.rand(clips.shape[0])
        mix = t[:, None, None, None, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            v = run(clips * (1 - mix) + noise * mix, t * 1000, text)
        torch.nn.functional.mse_loss(v.float(), noise - clips).backward()
        if update:
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        optimizer.zero_grad()

    return step


def sampling(case, how, dtype):
    model, run, clips, text = model_of(case, how, dtype)
    model.eval()
    if model.encoder is not None:  # once a prompt, as pipelines do
        with torch.no_grad():
            text = model.encoder(input_ids=text).last_hidden_state
        model.encoder = None
    t = torch.full((clips.shape[0],), 500.0)

    def step():
        with torch.no_grad():
            run(clips, t, text)

    return step


def attention(case, how, dtype, backward):
    q, k, v = (torch.randn(ATTENTION[case], dtype=dtype, requires_grad=backward) for _ in range(3))
    out = torch.nn.functional.scaled_dot_product_attention
    run = torch.compile(out) if how == "compiled" else out
    grad = torch.randn(ATTENTION[case], dtype=dtype)

    def step():
        if backward:
            torch.autograd.grad(run(q, k, v), (q, k, v), grad)
        else:
            run(q, k, v)

    return step


def peer():
    work, case, how, dtype, repeats = sys.argv[1:]
    torch.manual_seed(1)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    step = {
        "train": lambda: training(case, how, dtype, True),
        "gradients": lambda: training(case, how, dtype, False),
        "denoise": lambda: sampling(case, how, dtype),
        "attention": lambda: attention(case, how, dtype, False),
        "attention_both": lambda: attention(case, how, dtype, True),
    }[work]()
    times = []
    for _ in range(int(repeats) + 2):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{statistics.median(times[2:]) * 1000:.1f} {resident:.0f}")


# ---- the table ---------------------------------------------------------------------------------

BUILD = os.environ.get("BUILD", "build")
# work, case, dtypes, repeats
ROWS = [
    ("train", "tiny", ("f32", "bf16"), 7),
    ("train", "small", ("f32", "bf16"), 5),
    ("denoise", "small", ("f32", "bf16"), 5),
    ("gradients", "block", ("f32", "bf16"), 3),
    ("attention", "attention", ("f32", "bf16"), 3),
    ("attention_both", "attention", ("f32", "bf16"), 3),
    ("denoise", "wan-1.3b", ("bf16",), 1),
]
NAMES = {"train": "training step", "gradients": "both ways", "denoise": "denoise step"}


def run(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def ours_attention(work, dtype):
    """GFLOP/s of bench_ops: the forward alone, or with the backward that follows it."""
    text = run([f"{BUILD}/tests/bench/bench_ops", "best" if dtype == "f32" else "bf16", "0",
                "16384"])
    rows = {l.split()[0]: l.split() for l in text.splitlines() if l.startswith("attention")}
    ms = float(rows["attention"][8]) / 1000
    if work == "attention_both":
        ms += float(rows["attention_backward"][8]) / 1000
    share = rows["attention" if work == "attention" else "attention_backward"][-2]
    return ms, None, share


def ours(work, case, dtype, repeats):
    if case == "attention":
        return ours_attention(work, dtype)
    for line in run([f"{BUILD}/zoetrope", "bench", "--preset", case, "--dtype", dtype,
                     "--repeats", str(repeats)]).splitlines():
        if NAMES[work] in line:
            fields = line.split()[-8:]  # tokens, ms, tokens/s, GFLOP/s, rate, share, MiB
            return float(fields[-6]), int(fields[-1]), fields[-2].rstrip("%")
    raise SystemExit(f"bench has no line for {work} of {case}")


def theirs(work, case, how, dtype, repeats):
    ms, mib = run([sys.executable, __file__, work, case, how, dtype, str(repeats)]).split()
    return float(ms), int(mib)


def ratio(other, own):
    return f"{other / own:8.2f}" if other else "       -"


def row_name(work, case):
    if case == "attention":
        return case + (", both ways" if work == "attention_both" else "")
    return f"{case} {NAMES[work]}"


def row(work, case, dtype, repeats, rounds):
    runs = {"ours": [], "eager": [], "compiled": []}
    for _ in range(rounds):  # in turns: a busy moment falls on all
        runs["ours"].append(ours(work, case, dtype, repeats))
        for how in ("eager", "compiled"):
            try:
                runs[how].append(theirs(work, case, how, dtype, repeats))
            except subprocess.CalledProcessError as error:
                print(error.stderr.strip().splitlines()[-1], file=sys.stderr)
    ms = {k: statistics.median(r[0] for r in v) if v else None for k, v in runs.items()}
    mib = {k: max(r[1] or 0 for r in v) if v else 0 for k, v in runs.items()}
    name = row_name(work, case)
    shown = [f"{ms[k]:10.1f}" if ms[k] else "         -" for k in runs]
    print(f"{name:24} {dtype:5}", *shown, ratio(ms["eager"], ms["ours"]),
          ratio(ms["compiled"], ms["ours"]), f"{runs['ours'][-1][2]:>6}%",
          *(f"{mib[k] or '-':>7}" for k in runs), flush=True)


def seconds_to(command, marker):
    """Seconds from the start of a command to the first line of it that has the marker in it."""
    # ranks share the cores out themselves; bound as one program's threads they would sit on one
    env = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=env) as job:
        found = [time.perf_counter() - begin for line in job.stdout if marker in line]
    if not found:
        raise SystemExit(f"{command[0]} said nothing of '{marker}'")
    return found[0]


def start(rounds):
    """From the command to the first step of tiny, beside what importing the peers takes."""
    data = os.environ["PEERS_DATA"]
    steps = [("begins", "first step begins"), ("is done", "step 1/1 ")]
    own = {(ranks, name): [] for ranks in (1, 8) for name, _ in steps}
    imports = []
    for _ in range(rounds):
        for ranks, name in own:
            with tempfile.TemporaryDirectory() as folder:
                command = [f"{BUILD}/zoetrope", "train", "configs/tiny.yaml", f"run.dir={folder}/run",
                           f"data.train={data}", "data.micro_batch=1", "train.steps=1",
                           "train.warmup=1", "train.sample_every=0", "train.heldout_every=0"]
                launch = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
                own[ranks, name].append(seconds_to(launch + command, dict(steps)[name]))
        begin = time.perf_counter()
        run([sys.executable, "-c", "import torch, diffusers"])
        imports.append(time.perf_counter() - begin)
    for (ranks, name), times in own.items():
        print(f"tiny, first step {name}, {ranks} ranks: {statistics.median(times):.2f} s")
    print(f"import torch, diffusers: {statistics.median(imports):.2f} s")


def table():
    rounds, wanted = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    print(f"{'':24} {'dtype':5} {'ours ms':>10} {'eager':>10} {'compiled':>10}"
          f" {'eager x':>8} {'comp. x':>8} {'share':>7} {'MiB':>7} {'eager':>7} {'comp.':>7}")
    for work, case, dtypes, repeats in ROWS:
        for dtype in dtypes:
            if wanted in f"{row_name(work, case)} {dtype}":
                row(work, case, dtype, repeats, rounds)
    if wanted in "start":
        start(rounds)


if __name__ == "__main__":
    peer() if len(sys.argv) == 6 else table()
