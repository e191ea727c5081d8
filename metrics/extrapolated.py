"""FVD and FAD at infinitely many clips: Chong & Forsyth (2020), "Effectively unbiased FID and Inception score".

A Fréchet distance of N clips is too large by about c / N. It is taken of 8 numbers of clips from N / 2 to N, and the line fitted to them
over 1 / N is read at 0. Both sides lose the same clips, since both are as few here (the paper has all real images on one side).
The line is an approximation that needs more clips than features: of fewer the covariance has no full rank, and the value errs to
either side; `python benchmarks/few_clips.py` shows how much.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from avbench.metric import GENERATION, RECONSTRUCTION, MetricInfo, sides
from avbench.metrics.fad import FadAisfx, FadVggish
from avbench.metrics.fvd import Fvd

POINTS = 8
DRAWS = 2  # random subsets at each number of clips
MIN_CLIPS = 20


def at_infinity(counts: np.ndarray, distances: np.ndarray) -> float:
    """Where the line fitted to distances (P,) over 1 / counts (P,) meets 0."""
    return float(np.polynomial.Polynomial.fit(1 / counts, distances, deg=1)(0.0))


def subset_counts(num_clips: int) -> np.ndarray:
    """The numbers of clips: 8, evenly spaced in 1 / N between N / 2 and N."""
    return np.unique(np.round(1 / np.linspace(2 / num_clips, 1 / num_clips, POINTS)).astype(int))


def extrapolated(distance: Callable[[np.ndarray], float], rows: np.ndarray) -> float:
    """`distance` of rows (N, 2, ...) at infinitely many. The same subsets each time."""
    rng, counts, distances = np.random.default_rng(0), [], []
    for count in subset_counts(len(rows)):
        for _ in range(DRAWS if count < len(rows) else 1):
            counts.append(count)
            distances.append(distance(rows[np.sort(rng.choice(len(rows), count, replace=False))]))
    return at_infinity(np.array(counts), np.array(distances))


class _Extrapolated:
    """Over the rows of a Fréchet distance, which the other base class computes."""

    def compute(self, rows: np.ndarray) -> float:
        return extrapolated(super().compute, rows[sides(rows).any(axis=1)])  # type: ignore[misc]


def _of(info: MetricInfo) -> MetricInfo:
    what = f"line over 1/N of {POINTS} numbers of clips from N/2 to N, {DRAWS} draws each (seed 0), at 0"
    return replace(
        info,
        name=f"{info.name}_inf",
        protocol=f"{what}; {info.protocol}",
        min_clips=MIN_CLIPS,
        default=False,
        tasks=RECONSTRUCTION | GENERATION,
        sets=frozenset({"distribution"}),
    )


class FvdInf(_Extrapolated, Fvd):
    """FVD of infinitely many clips."""

    info = _of(Fvd.info)


class FadAisfxInf(_Extrapolated, FadAisfx):
    """FAD-aisfx of infinitely many clips."""

    info = _of(FadAisfx.info)


class FadVggishInf(_Extrapolated, FadVggish):
    """FAD-VGGish of infinitely many clips."""

    info = _of(FadVggish.info)
