#!/usr/bin/env bash
# Trains AVTok on a machine with a GPU, 16 cores, Python 3.12 with torch, and no network. Every piece ends within nine minutes and
# goes on where the last one stopped; the machine's disk keeps the state between pieces.
#
#   scripts/gpu_train.sh pack                      here: wheels to .whl/, pretrained files to .weights/{1,2,3}/ (git then ignores both)
#   scripts/gpu_train.sh setup                     there, once, with .whl and .weights/1 carried: install, begin to make clips
#   scripts/gpu_train.sh weights                   there, with .weights/2, then with .weights/3 carried (they are too large for one call)
#   scripts/gpu_train.sh train avtok-small [MIN]   there, as often as it takes: train MIN minutes (8), copy the checkpoint to $OUT
#
# Settings (environment): AVBENCH_GPU_DIR (state, /tmp/avbench), CLIPS (of arcade-train, all), DEVICE (auto), TRAIN_ARGS (more options
# of `avbench train`), PYTHON (python3), WHEEL_DIR (.whl).
# A rehearsal on a CPU: CLIPS=40 DEVICE=cpu WHEEL_DIR=none scripts/gpu_train.sh setup, then train avtok-mini 1.
set -euo pipefail
cd "$(dirname "$0")/.."

STATE=${AVBENCH_GPU_DIR:-/tmp/avbench}
PYTHON=${PYTHON:-python3}
WHEEL_DIR=${WHEEL_DIR:-.whl}
DEVICE=${DEVICE:-auto}
export AVBENCH_CACHE=$STATE/cache
export PYTHONPATH=$STATE/site:$PWD PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

# What the GPU machine's image lacks; `av` is not needed for arcade.
WHEELS=(ale-py==0.12.1 lpips==0.1.4 librosa==0.11.0 soxr soundfile audioread pooch decorator platformdirs cffi pycparser)
FILES_BACK=8 # at most so many files of at most 16 MB come back from $OUT, 64 MB together

pack() {
    local target=(--no-deps --only-binary=:all: --python-version 3.12 --implementation cp)
    for glibc in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
        target+=(--platform "${glibc}_x86_64")
    done
    rm -rf .whl .weights
    mkdir -p .git/info
    for folder in /.whl/ /.weights/; do
        grep -qxs "$folder" .git/info/exclude || echo "$folder" >>.git/info/exclude
    done
    "$PYTHON" -m pip download -q "${target[@]}" -d .whl "${WHEELS[@]}"
    mkdir -p .weights/{1,2,3}
    local cache number=1
    unset AVBENCH_CACHE
    for name in aisfx i3d-k400 vgg16; do
        cache=$("$PYTHON" -c "from avbench import weights; print(weights.path('$name'))")
        cp "$cache" ".weights/$number/"
        number=$((number + 1))
    done
    du -sh .whl .weights/*
}

take_weights() {
    mkdir -p "$AVBENCH_CACHE/weights"
    for file in .weights/*/*; do
        [ -f "$file" ] && cp -n "$file" "$AVBENCH_CACHE/weights/"
    done
    ls -l "$AVBENCH_CACHE/weights"
}

setup() {
    mkdir -p "$STATE/site"
    if compgen -G "$WHEEL_DIR/*.whl" >/dev/null; then
        "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$STATE/site" "$WHEEL_DIR"/*.whl
    fi
    # No metadata of avbench itself: it runs from its source, so its entry points are written beside the wheels'.
    "$PYTHON" scripts/entry_points.py "$STATE/site"
    take_weights
    make_clips
}

# In a session of its own: it goes on while the other pieces are carried over. Its emulators use every core.
make_clips() {
    nohup setsid "$PYTHON" -m avbench data prepare arcade-train ${CLIPS:+--limit "$CLIPS"} >"$STATE/clips.log" 2>&1 </dev/null &
    "$PYTHON" -m avbench data prepare arcade-val --limit 101
}

train() {
    local recipe=$1 minutes=${2:-8}
    # Waits for the clips that are still being made: preparing is done by one process at a time and resumes.
    "$PYTHON" -m avbench data prepare arcade-train ${CLIPS:+--limit "$CLIPS"}
    # shellcheck disable=SC2086
    "$PYTHON" -m avbench.train "$recipe" --out "$STATE/out/$recipe" --max-minutes "$minutes" --device "$DEVICE" \
        ${CLIPS:+--limit "$CLIPS"} ${TRAIN_ARGS:-} 2> >(tail -c 2000 >&2)
    bring_back "$STATE/out/$recipe"
}

bring_back() {
    local out=$1 to=${OUT:-$STATE/back}
    mkdir -p "$to"
    rm -rf "${to:?}"/*
    cp "$out"/manifest.json "$out"/model-*.safetensors "$to/"
    cp "$out"/log.jsonl "$to/log.jsonl"
    cp "$(ls "$out"/pictures/*.png | tail -n 1)" "$to/picture.png"
    local count
    count=$(find "$to" -type f | wc -l)
    echo "$count files, $(du -sm "$to" | cut -f1) MB in $to"
    [ "$count" -le "$FILES_BACK" ] || echo "more than $FILES_BACK files: fetch the shards in two calls" >&2
}

case "${1:-}" in
pack) pack ;;
setup) setup ;;
weights) take_weights ;;
train) train "${2:?which recipe? avtok-small, for example}" "${3:-8}" ;;
*) sed -n '2,13p' "$0" >&2; exit 2 ;;
esac
