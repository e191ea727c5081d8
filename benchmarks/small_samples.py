"""Coverage of 95 % intervals for the mean of few clips: which one avbench.stats uses, and from how many clips on.

    OMP_NUM_THREADS=1 python benchmarks/small_samples.py [--trials 2000] [--median]

Each line: a distribution, N, and of five intervals how often they held the true mean (%), and their mean width over the t interval's.
percentile: of the bootstrap; BCa: Efron & Tibshirani 1993, ch. 14.3; bootstrap-t: ch. 12.5, with the mean's own standard error; t:
Student's; avbench: what `avbench.stats.mean_interval` gives. --median: of the median, the jackknife and the percentile bootstrap.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy.stats import norm, t

from avbench.stats import Interval, jackknife_interval, mean_interval, resampled_interval

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
RESAMPLES = 1000
LEVEL = (0.025, 0.975)
POPULATIONS: dict[str, tuple[Draw, float]] = {  # and its mean
    "normal": (lambda rng, shape: rng.standard_normal(shape), 0.0),
    "skewed (exponential)": (lambda rng, shape: rng.exponential(size=shape), 1.0),
    "very skewed (lognormal)": (lambda rng, shape: rng.lognormal(0.0, 1.0, shape), float(np.exp(0.5))),
    "heavy-tailed (t, 3 df)": (lambda rng, shape: rng.standard_t(3, shape), 0.0),
    "a share (0 or 1, p = 0.2)": (lambda rng, shape: (rng.random(shape) < 0.2).astype(float), 0.2),
}


def percentile(values: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """(2,) of values (N,) and resampled (R, N)."""
    return np.asarray(np.quantile(resampled.mean(1), LEVEL))


def bca(values: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """Bias-corrected and accelerated: other quantiles of the same means."""
    means, mean, count = resampled.mean(1), values.mean(), len(values)
    below = np.clip((means < mean).mean() + (means == mean).mean() / 2, 1 / len(means), 1 - 1 / len(means))
    bias, apart = norm.ppf(below), mean - (values.sum() - values) / (count - 1)
    spread = np.square(apart).sum()
    acceleration = np.power(apart, 3).sum() / (6 * spread**1.5) if spread else 0.0
    shifted = bias + norm.ppf(LEVEL)
    return np.asarray(np.quantile(means, norm.cdf(bias + shifted / (1 - acceleration * shifted))))


def bootstrap_t(values: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """Quantiles of (mean* - mean) / error*, turned around."""
    error, errors = _error(values), _error(resampled)
    usable = errors > 0
    if not usable.any():
        return np.array([values.mean(), values.mean()])
    low, high = np.quantile((resampled.mean(1)[usable] - values.mean()) / errors[usable], LEVEL)
    return np.array([values.mean() - high * error, values.mean() - low * error])


def student(values: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """Student's t."""
    half = t.ppf(LEVEL[1], len(values) - 1) * _error(values)
    return np.array([values.mean() - half, values.mean() + half])


def widest(values: np.ndarray, resampled: np.ndarray) -> np.ndarray:
    """What avbench shows: below 50 clips the widest of percentile, bootstrap-t and t."""
    return np.array(mean_interval(values, num_resamples=len(resampled)), dtype=float)


METHODS = {"percentile": percentile, "BCa": bca, "bootstrap-t": bootstrap_t, "t": student, "avbench": widest}


def _error(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1]))


def coverage(name: str, count: int, trials: int) -> str:
    """One line of the report."""
    draw, truth = POPULATIONS[name]
    rng = np.random.default_rng(1)
    hits, widths = dict.fromkeys(METHODS, 0), dict.fromkeys(METHODS, 0.0)
    for values in draw(rng, (trials, count)):
        resampled = values[rng.integers(count, size=(RESAMPLES, count))]
        for method, interval in METHODS.items():
            low, high = interval(values, resampled)
            hits[method] += low <= truth <= high
            widths[method] += high - low
    cells = [f"{method} {100 * hits[method] / trials:5.1f} ({widths[method] / widths['t']:.2f})" for method in METHODS]
    return f"{name:27s} N={count:3d}  {'  '.join(cells)}"


def median_coverage(name: str, count: int, trials: int) -> str:
    """One line: how often either interval of the median held it (%), and their mean widths."""
    rng = np.random.default_rng(1)
    draw = POPULATIONS[name][0]
    truth = float(np.median(draw(rng, (1, 1_000_000))))
    ways: dict[str, Callable[..., Interval]] = {"jackknife": jackknife_interval, "avbench": resampled_interval}
    found = {way: [interval(_median, values) for values in draw(rng, (trials, count))] for way, interval in ways.items()}
    cells = []
    for way, ends in found.items():
        low, high = np.array(ends, dtype=float).T
        cells.append(f"{way} {100 * ((low <= truth) & (truth <= high)).mean():5.1f} (width {(high - low).mean():.3f})")
    return f"{name:27s} N={count:3d}  {'  '.join(cells)}"


def _median(values: np.ndarray) -> float:
    return float(np.median(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--median", action="store_true")
    arguments = parser.parse_args()
    trials = arguments.trials
    if arguments.median:
        print(f"{trials} trials; coverage in % of intervals for the median, and their mean width")
        for count in (25, 50, 100):
            for name in ("normal", "skewed (exponential)", "heavy-tailed (t, 3 df)"):
                print(median_coverage(name, count, trials), flush=True)
        return
    print(f"{trials} trials; coverage in %, and mean width over that of t")
    for count in (10, 25, 50, 100):
        for name in POPULATIONS:
            print(coverage(name, count, trials), flush=True)


if __name__ == "__main__":
    main()
