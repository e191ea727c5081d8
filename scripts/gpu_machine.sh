# Sourced by gpu_day.sh and gpu_smoke.sh: a lent machine made ready, from what .gpu/ holds. Reads STATE and OUT.

prepare_machine() {
    PYTHON=${PYTHON:-python3}
    export AVBENCH_CACHE=${AVBENCH_CACHE:-$STATE/cache} PYTHONPATH=$STATE/site:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8} PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    mkdir -p "$STATE/site" "$AVBENCH_CACHE" "$OUT"
    if [ -f .gpu/networks.safetensors ]; then export AVBENCH_HALF_WEIGHTS=$PWD/.gpu/networks.safetensors; fi
    if compgen -G ".gpu/wheels/*.whl" >/dev/null && [ ! -e "$STATE/site/ale_py" ]; then
        "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$STATE/site" .gpu/wheels/*.whl
    fi
    # No metadata of avbench itself: it runs from its source, so its entry points are written beside the wheels'.
    "$PYTHON" scripts/entry_points.py "$STATE/site"
}
