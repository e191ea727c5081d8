"""How `av_onset_corr` and `av_onset_lag` move when sound is shifted against picture by a known time: their calibration.

    AVBENCH_OFFLINE=1 python benchmarks/av_sync.py [FOLDER ...] [--split arcade-mini] [--limit 40]

Bouncing balls with clicks (25 frames a second), then each FOLDER at `folder:FOLDER?fps=25`, then the split. A row: for each shift the mean
correlation at lag 0 with half its 95 % interval, the mean best lag less that of no shift, the mean |lag|, which is the metric, and `lag
told`: the share of clips whose best lag moved by the shift to 30 ms. The last row pairs picture and sound of different clips.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
from bouncing import bouncing

from avbench.data import splits
from avbench.data.batches import read_batch
from avbench.metrics.av_sync import LAGS, best_lag, lag_correlations

SHIFTS = (0.0, 0.04, 0.08, 0.16, 0.32)
Clips = list[tuple[Tensor, Tensor, float, int]]  # (1, T, 3, H, W), (1, C, N), fps, sample rate


def late(audio: Tensor, seconds: float, sample_rate: int) -> Tensor:
    """The same sound that much later; what comes in is its end, so that no onset is made by silence."""
    return audio.roll(round(seconds * sample_rate), dims=-1)


def curve(name: str, clips: Clips) -> None:
    """Prints the table of one set of clips."""
    found = {f"{1000 * s:g} ms": torch.cat([lag_correlations(v, late(a, s, r), f, r) for v, a, f, r in clips]) for s in SHIFTS}
    others = [*clips[1:], clips[0]]
    found["another clip's"] = torch.cat(
        [lag_correlations(v, other[1][..., : a.shape[-1]], f, r) for (v, a, f, r), other in zip(clips, others, strict=True)]
    )
    there = torch.stack([row.isfinite().all(1) for row in found.values()]).all(0)
    plain = best_lag(found["0 ms"])[there]
    rows = []
    for label, shift in zip(found, (*SHIFTS, None), strict=True):
        kept = found[label][there]
        score, lag = kept[:, len(LAGS) // 2], best_lag(kept)
        told = "" if shift is None else f"{100 * ((lag - plain - shift).abs() <= 0.03).double().mean().item():.0f} %"
        half = 1.96 * score.std().item() / len(score) ** 0.5
        rows.append([label, f"{score.mean():.3f} ±{half:.3f}", f"{(lag - plain).mean():+.3f}", f"{lag.abs().mean():.3f}", told])
    print(f"\n{name}: {int(there.sum())} of {len(clips)} clips move and sound")
    print(
        tabulate(rows, headers=["sound later by", "av_onset_corr", "lag moved (s)", "av_onset_lag (s)", "lag told"], disable_numparse=True),
        flush=True,
    )


def clips_of(name: str, limit: int) -> Iterator[tuple[Tensor, Tensor, float, int]]:
    """The first clips of a split that can be read."""
    split = splits.load(name, limit=limit, progress=False)
    for index in range(min(limit, len(split.clips))):
        clips = read_batch(split, index, [index]).clips
        if clips is not None and clips.video is not None and clips.audio is not None:
            yield clips.video, clips.audio, clips.fps, clips.sample_rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--split", default="arcade-mini")
    parser.add_argument("--limit", type=int, default=40)
    arguments = parser.parse_args()
    curve("bouncing balls, 25 fps", [(*bouncing(seed=seed), 25.0, 24_000) for seed in range(10)])
    for name in [*(f"folder:{folder}?fps=25&seconds=4" for folder in arguments.folders), arguments.split]:
        curve(name, list(clips_of(name, arguments.limit)))


if __name__ == "__main__":
    main()
