#!/bin/bash
# `make bench-peers`: zoetrope beside PyTorch, diffusers and transformers on this machine, in turns.
# ROUNDS=3 and ROWS=text of the rows to run. The peers come from PyPI into build/peers once, or are
# those of PEERS_PYTHON; nothing else of the project needs them.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
python=${PEERS_PYTHON:-$build/peers/bin/python}

if [ ! -x "$python" ]; then
    python3 -m venv "$build/peers"
    "$python" -m pip install --quiet torch diffusers transformers
fi
# threads stay on their cores, as many as there are
OMP_NUM_THREADS=$(nproc)
export OMP_NUM_THREADS OMP_PROC_BIND=close BUILD=$build
grep -m 1 'model name' /proc/cpuinfo | sed 's/.*: //'
"$build/zoetrope" --version
"$python" -c 'import torch, diffusers, transformers
print("torch", torch.__version__, "diffusers", diffusers.__version__, "transformers", transformers.__version__)'
# what a run starts with: a small dataset
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/clips"
ffmpeg -v error -f lavfi -i testsrc2=size=64x64:rate=8:duration=8 -pix_fmt yuv420p "$work/clips/bars.mp4"
echo 'coloured bars' > "$work/clips/bars.txt"
"$build/zoetrope" ingest "$work/clips" --out "$work/data" --frames 17 --size 64x64 --fps 8 --stride 1 > "$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
export PEERS_DATA=$work/data
"$python" tests/peers/peers.py "${ROUNDS:-3}" ${ROWS:+"$ROWS"}
