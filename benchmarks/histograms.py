"""What it takes to sum up a large run: memory and seconds of `result.json` for 10,000 clips with two histograms of 16,384 entries each.

    OMP_NUM_THREADS=1 python benchmarks/histograms.py [--clips 10000] [--codes 376] [--keep FOLDER]

Writes the parts of such a run, as `avbench run` leaves them, then sums them up in a process of its own and prints its peak.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ENTRIES = 16_384
NAMES = ("codebook_use", "codebook_perplexity")


def write_parts(folder: Path, num_clips: int, num_codes: int, batch_size: int = 64) -> None:
    """Parts of clips whose codes are drawn like words: some often, most seldom."""
    from avbench.run.store import BatchResult, ClipRow, RunStore

    store, rng = RunStore(folder), np.random.default_rng(0)
    likely = 1 / np.arange(1, ENTRIES + 1)
    for index, start in enumerate(range(0, num_clips, batch_size)):
        ids = [f"clip-{clip:06d}" for clip in range(start, min(start + batch_size, num_clips))]
        codes = rng.choice(ENTRIES, size=(len(ids), num_codes), p=likely / likely.sum())
        rows = np.stack([np.bincount(row, minlength=ENTRIES) for row in codes]).astype(np.float32)
        store.save(
            BatchResult(
                index=index, rows=tuple(ClipRow(id=clip, label=None, status="ok") for clip in ids), features=dict.fromkeys(NAMES, rows),
                seconds={"encode": 0.1, "decode": 0.1}, peak_memory_mb=1.0, measured=dict.fromkeys(NAMES, "1"),
            )
        )  # fmt: skip


def sum_up(folder: Path) -> None:
    """result.json of the parts in `folder`; prints seconds of the processor, peak memory before and after, and the values."""
    from avbench import registry
    from avbench.metric import MetricOptions
    from avbench.run import summary
    from avbench.run.store import RunStore

    metrics = [registry.load_metric(name, MetricOptions()) for name in NAMES]
    before, started, store = _peak_mb(), time.process_time(), RunStore(folder)
    parts = list(summary.gather(store)) if hasattr(summary, "gather") else list(store.load())
    features, values = {}, []
    for metric in metrics:
        features[metric.info.name] = summary._rows_of(metric.info.name, parts)
        values.append(summary._value(metric.info, metric.compute, features[metric.info.name], parts, 0))
    store.write_features(features)
    facts = {value.name: (value.value, value.ci_low, value.ci_high) for value in values}
    seconds, after = time.process_time() - started, _peak_mb()
    print(json.dumps({"seconds": round(seconds, 1), "peak_mb": round(after), "before_mb": round(before), **facts}))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Write, then sum up in another process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--codes", type=int, default=376, help="of a clip")
    parser.add_argument("--keep", type=Path, help="where the parts are, or will be")
    parser.add_argument("--sum-up", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sum_up:
        sum_up(options.sum_up)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "parts").exists():
            write_parts(folder, options.clips, options.codes)
        subprocess.run([sys.executable, __file__, "--sum-up", str(folder)], check=True)
        print(f"features.npz: {(folder / 'features.npz').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
