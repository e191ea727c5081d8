"""Coverage of 95 % intervals for a Fréchet distance on Gaussians of known distance: why avbench.stats uses the jackknife there.

    OMP_NUM_THREADS=1 python benchmarks/intervals.py [--trials 100]

Each line: the distance of the populations, the mean of the estimate at this N (what the interval is about), and how often an interval
contained that mean: percentile bootstrap, estimate +- 1.96 x bootstrap SE, and the jackknife; then the SEs over the true SD.
"""

import argparse
from collections.abc import Callable

import numpy as np

from avbench.stats import MAX_GROUPS, jackknife_interval

# recon = keep x reference + noise x N(0, 1) + shift
KINDS = {"independent": (0.0, 1.0, 0.3), "related": (0.8, 0.4, 0.2), "close": (0.98, 0.1, 0.02)}
T_QUANTILE = 2.0227  # 39 degrees of freedom


def frechet(rows: np.ndarray) -> float:
    """Fréchet distance of the columns rows[:, 0] and rows[:, 1], rows (N, 2, D)."""
    a, b = rows[:, 0], rows[:, 1]
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def draw(num_clips: int, size: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """(num_clips, 2, size) reference and reconstruction features."""
    keep, noise, shift = KINDS[kind]
    reference = rng.standard_normal((num_clips, size))
    return np.stack([reference, keep * reference + noise * rng.standard_normal((num_clips, size)) + shift], axis=1)


def true_distance(size: int, kind: str) -> float:
    """Closed form: both covariances are multiples of the identity."""
    keep, noise, shift = KINDS[kind]
    return size * (shift**2 + (1 - np.sqrt(keep**2 + noise**2)) ** 2)


def bootstrap(compute: Callable[[np.ndarray], float], rows: np.ndarray, rng: np.random.Generator, count: int = 100) -> np.ndarray:
    """`compute` over `count` resamples with replacement."""
    return np.array([compute(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(count)])


def coverage(num_clips: int, size: int, kind: str, trials: int) -> str:
    """One line of the report."""
    rng = np.random.default_rng(1)
    population = np.array([frechet(draw(num_clips, size, kind, rng)) for _ in range(1000)])
    mean, deviation = population.mean(), population.std()
    hits, errors = np.zeros(3), np.zeros(2)
    for trial in range(trials):
        rows = draw(num_clips, size, kind, rng)
        estimate, resampled = frechet(rows), bootstrap(frechet, rows, rng)
        low, high = np.quantile(resampled, (0.025, 0.975))
        jack_low, jack_high = jackknife_interval(frechet, rows, seed=trial)
        assert jack_low is not None
        assert jack_high is not None
        hits += (low <= mean <= high, abs(estimate - mean) <= 1.96 * resampled.std(), jack_low <= mean <= jack_high)
        errors += (resampled.std(), (jack_high - jack_low) / 2 / T_QUANTILE)
    percentile, normal, jackknife = hits / trials
    ratio = errors / trials / deviation
    return (
        f"N={num_clips:4d} D={size:3d} {kind:11s} distance {true_distance(size, kind):7.3f}, mean at N {mean:7.3f} | "
        f"percentile {percentile:.2f} normal {normal:.2f} jackknife {jackknife:.2f} | SE/SD normal {ratio[0]:.2f} jackknife {ratio[1]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    trials = parser.parse_args().trials
    print(f"{trials} trials, jackknife of {MAX_GROUPS} groups")
    for num_clips, size in ((100, 8), (400, 8), (60, 64), (100, 64), (400, 64)):
        for kind in KINDS:
            print(coverage(num_clips, size, kind, trials), flush=True)


if __name__ == "__main__":
    main()
