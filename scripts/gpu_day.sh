#!/usr/bin/env bash
# A training on a GPU that is lent for minutes, by a machine with 16 cores, Python 3.12 with torch, and no network (docs/gpu.md).
#
#   scripts/gpu_day.sh pack               here: the tree made slim, what it needs beside it in .gpu/, all of it at most 64 MiB
#   scripts/gpu_day.sh once RECIPE        there, with .gpu/ carried: smoke, clips, probe of rates, training; what is trained lies in $OUT
#   scripts/gpu_day.sh more [SPLIT...]    there, at once after it: parts that found no room, and the splits' tokens by the new tokenizer
#   scripts/gpu_day.sh join FOLDER TO     here: the parts that came back, as the folder TO
#   scripts/gpu_day.sh restore            here: the tree as it was
#
# Settings (environment): LIMIT (seconds that `once` may take, 560), CLIPS (of arcade-train, all), SPLIT (arcade-train), INIT (pack: a
# checkpoint to begin with; it travels in .gpu/init), OUT (.out), STATE (/dev/shm/avbench-day), DEVICE (auto),
# PYTHON, TOKENIZER (avtok), DOWNLOAD (pack: no leaves out the wheels), DAY_ARGS (more options of avbench.train.day).
set -euo pipefail
cd "$(dirname "$0")/.."

STATE=${STATE:-/dev/shm/avbench-day}
OUT=${OUT:-$PWD/.out}
LIMIT=${LIMIT:-560}
SPLIT=${SPLIT:-arcade-train}
MAX_BYTES=67108864 # of the tree and what is carried
source scripts/gpu_machine.sh

# Folders that stay on the disk and do not travel; nothing of a training reads them. Every tokenizer's weights are among them.
mapfile -t WEIGHTS < <(git ls-files 'tokenizers/*/checkpoint/*' 'tokenizers/*/generator/*' | sed 's:/[^/]*$::' | sort -u)
STAYS=("${WEIGHTS[@]}" runs results leaderboards docs metrics/features/arcade-train)
# What the GPU machine's image lacks. PyAV is 36 MB; no training imports it (tests/train/test_imports.py).
WHEELS=(ale-py==0.12.1 lpips==0.1.4 librosa==0.11.0 auraloss soxr soundfile audioread pooch decorator platformdirs cffi pycparser)

pack() {
    local python=${PYTHON:-.venv/bin/python} target=(--no-deps --only-binary=:all: --python-version 3.12 --implementation cp)
    for glibc in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
        target+=(--platform "${glibc}_x86_64")
    done
    rm -rf .gpu
    mkdir -p .gpu/wheels
    exclude "${STAYS[@]}"
    git rm -rq --cached --ignore-unmatch -- "${STAYS[@]}"
    [ "${DOWNLOAD:-yes}" = no ] || "$python" -m pip download -q "${target[@]}" -d .gpu/wheels "${WHEELS[@]}"
    "$python" -c 'from pathlib import Path
from avbench.tokenizers.avtok.teacher import half_networks
from avbench.weights import half
half.write(Path(".gpu/networks.safetensors"), half_networks())'
    if [ -n "${INIT:-}" ]; then cp -r "$INIT" .gpu/init; rm -rf .gpu/init/state.pt .gpu/init/tensorboard .gpu/init/pictures; fi
    check_size
}

# Ends with 1 where what would travel is too large.
check_size() {
    local bytes
    bytes=$( (git ls-files -zco --exclude-standard; find .gpu -type f -print0) | sort -zu | { xargs -0 stat -c %s 2>/dev/null || true; } | awk '{sum += $1} END {print sum}')
    echo "$bytes bytes travel, of $MAX_BYTES"
    [ "$bytes" -le "$MAX_BYTES" ] || { echo "too many; restore, then leave something out" >&2; exit 1; }
}

# Lines of .git/info/exclude for as long as the tree is slim.
exclude() {
    local file
    file=$(git rev-parse --git-path info/exclude)
    mkdir -p "$(dirname "$file")"
    [ -f "$file.before" ] || { touch "$file"; cp "$file" "$file.before"; }
    { cat "$file.before"; printf '/%s/\n' "$@"; } >"$file"
}

restore() {
    local file
    file=$(git rev-parse --git-path info/exclude)
    if [ -f "$file.before" ]; then mv "$file.before" "$file"; fi
    git reset -q
    git status --short
}

# The log lies in $OUT from the first second: a command that runs into its limit leaves what it knew.
once() {
    mkdir -p "$OUT"
    exec > >(tee -a "$OUT/day.log") 2>&1
    trap 'echo "ended with $? after $SECONDS s"' EXIT
    trap 'exit 143' TERM INT
    echo "once $*: $LIMIT s, $(nproc) cores"
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null || echo "no GPU"
    prepare_machine
    echo "packages are there after $SECONDS s"
    # In a session of its own, behind the smoke; the training waits for it: preparing is one process's at a time.
    nohup setsid nice "$PYTHON" -m avbench data prepare "$SPLIT" ${CLIPS:+--limit "$CLIPS"} >"$STATE/clips.log" 2>&1 </dev/null &
    local init=()
    if [ -d .gpu/init ]; then init=(--init .gpu/init); fi
    "$PYTHON" -m avbench.train.day "$1" --seconds $((LIMIT - SECONDS)) --state "$STATE" --out "$OUT" --split "$SPLIT" ${CLIPS:+--limit "$CLIPS"} \
        --device "${DEVICE:-auto}" "${init[@]}" ${DAY_ARGS:-}
}

# The parts beyond the first trip; with splits, their tokens too (int16, 17 MB for 7,070 clips), which generators learn.
more() {
    prepare_machine
    rm -f "$OUT"/checkpoint.tar.*
    find "$STATE/run.parts" -name 'checkpoint.tar.*' | sort | tail -n +5 | xargs -r cp -t "$OUT"
    [ $# -eq 0 ] || "$PYTHON" - "${TOKENIZER:-avtok}" "$STATE/run" "${CLIPS:-}" "$@" <<'END'
import sys

import torch

from avbench.data import splits
from avbench.generate.tokens import load_tokens
from avbench.registry import load_tokenizer

name, checkpoint, clips, *names = sys.argv[1:]
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
tokenizer = load_tokenizer(name, checkpoint=checkpoint, device=device)
for split in names:
    print(split, len(load_tokens(tokenizer, splits.load(split, limit=int(clips) if clips else None), device)), "clips", flush=True)
END
    [ $# -eq 0 ] || tar -cf - -C "$AVBENCH_CACHE" tokens | split -b 15M -d - "$OUT/tokens.tar."
    ls -l "$OUT"
}

# Parts of both commands lie in one folder. Tokens go to the cache by hand: tar -xf - -C ~/.cache/avbench
join_parts() {
    mkdir -p "$2"
    cat "$1"/checkpoint.tar.* | tar -xf - -C "$2"
    if compgen -G "$1/tokens.tar.*" >/dev/null; then cat "$1"/tokens.tar.* | tar -xf - -C "$2"; fi
    ls "$2"
}

case "${1:-}" in
pack) pack ;;
check) check_size ;;
once) once "${2:?which recipe? avtok-small, for example}" ;;
more) shift; more "$@" ;;
join) join_parts "${2:?the folder with the parts}" "${3:?where to}" ;;
restore) restore ;;
*) sed -n '2,13p' "$0" >&2; exit 2 ;;
esac
