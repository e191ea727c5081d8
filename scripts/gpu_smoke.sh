#!/usr/bin/env bash
# CUDA paths that a training does not take, in at most 90 s (benchmarks/gpu_smoke.py); its lines and its JSON lie in $OUT. On a machine
# without a GPU, the same at a tiny size. Beside gpu_day.sh, on the lent machine: scripts/gpu_smoke.sh, with .gpu/ carried.
#
# Settings (environment): SECONDS_MAX (90), OUT (.out), STATE (/dev/shm/avbench-day), PYTHON, LARP and WAVTOKENIZER (checkouts of the
# official code, as their speed benchmarks take them).
set -euo pipefail
cd "$(dirname "$0")/.."
STATE=${STATE:-/dev/shm/avbench-day}
OUT=${OUT:-$PWD/.out}
source scripts/gpu_machine.sh
prepare_machine
timeout "${SECONDS_MAX:-90}" "$PYTHON" benchmarks/gpu_smoke.py --device "${DEVICE:-auto}" --out "$OUT/smoke.json" ${LARP:+--larp "$LARP"} \
    ${WAVTOKENIZER:+--wavtokenizer "$WAVTOKENIZER"} 2>&1 | tee "$OUT/smoke.log"
