"""Intervals and paired tests over clips. Deterministic: the same rows and seed give the same numbers.

A mean over clips gets the percentile bootstrap; over fewer than 50 clips that covers too little (80 to 91 % of the time at 10 clips instead
of 95 %, by how skewed they are), and the interval is the widest of three: percentile, bootstrap-t, and Student's t.
`python benchmarks/small_samples.py` prints the coverage of each. Anything else (Fréchet distances, codebook use) gets the delete-a-group
jackknife, because its value depends on how many *different* clips there are: a bootstrap resample holds only 63 % of them,
which moves the whole bootstrap distribution (FVD up, codebook use down) until it misses the estimate it belongs to. A median gets the
percentile bootstrap again: the jackknife of a median misses it one time in five (`python benchmarks/small_samples.py --median`).
`python benchmarks/intervals.py` prints the coverage of the candidates on Gaussians of known distance.

Every interval is about the value at this N. FVD and FAD fall as N grows (METRICS: 433 at N = 128, 9.9 at N = 8192 for
equal distributions); no interval from one sample mends that, which is why N belongs to the protocol.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import stdtr, stdtrit

from avbench import sparse
from avbench.sparse import Rows

Compute = Callable[[np.ndarray], float]
Interval = tuple[float | None, float | None]

NUM_RESAMPLES = 2000
FEW = 50  # clips; with fewer, the mean's interval is the widest of three
VERSION = 2  # of the intervals: a finished run of another version is summed up again from its rows
# 40 evaluations of a 400-d Fréchet distance are about 4 s on one core; the t quantile at 39 degrees of freedom is 2.02 against 1.96.
MAX_GROUPS = 40
_DRAWS_AT_ONCE = 2_000_000  # 16 MB of indices, whatever N is


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """B minus A over the same clips. `difference` is None where there is nothing to compare; p is two-sided, against no difference."""

    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    num_clips: int


NOTHING = PairedDifference(difference=None, ci_low=None, ci_high=None, p_value=None, num_clips=0)


def estimate(
    compute: Compute,
    rows: Rows,
    *,
    per_clip: bool,
    resampled: bool = False,
    additive: bool = False,
    seed: int = 0,
    sets: np.ndarray | None = None,
) -> tuple[float, float | None, float | None]:
    """A metric's value over `rows` (N, ...), all of them numbers, with the ends of its interval: what a run's result holds.

    per_clip: rows are one number a clip and the value is their mean. resampled: rows may be counted twice, as a median's.
    additive: `compute` takes the rows' sum. sets: of `jackknife_interval`.
    """
    if per_clip and rows.ndim == 1:
        values = sparse.dense(rows)
        return float(compute(values)), *mean_interval(values, seed=seed)
    if resampled:
        values = sparse.dense(rows)
        return float(compute(values)), *resampled_interval(compute, values, seed=seed)

    def of_clips(kept: np.ndarray) -> float:
        return float(compute(sparse.total(rows[kept]) if additive else sparse.dense(rows[kept])))

    every = np.arange(rows.shape[0])
    return of_clips(every), *jackknife_interval(of_clips, every, seed=seed, sets=sets)


def resampled_interval(
    compute: Compute, rows: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0, level: float = 0.95
) -> Interval:
    """Percentile bootstrap of `compute` of rows (N, ...), which repeated rows must not bias. Needs three rows."""
    if len(rows) < 3:
        return None, None
    values = [compute(rows[kept]) for kept in _resamples(len(rows), num_resamples, seed)]
    low, high = np.quantile(values, _tails(level))
    return float(low), float(high)


def bootstrap_interval(
    compute: Compute, rows: np.ndarray, *, per_clip: bool, num_resamples: int = NUM_RESAMPLES, seed: int = 0, level: float = 0.95
) -> Interval:
    """Interval of `compute(rows)` over clips, rows (N, ...) as a metric's `update` gave them; (None, None) where there is none.

    per_clip, one number a clip whose value is their mean: percentile bootstrap, clips without a value (NaN) left out. Otherwise the
    jackknife of `jackknife_interval`, which calls `compute` at most 41 times.
    """
    rows = np.asarray(rows)
    if per_clip and rows.ndim == 1:
        return mean_interval(rows, num_resamples=num_resamples, seed=seed, level=level)
    return jackknife_interval(compute, rows, seed=seed, level=level)


def mean_interval(values: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0, level: float = 0.95) -> Interval:
    """Interval of the mean of `values` (N,), non-finite ones left out: the bootstrap's, of few the widest of three. Needs two values."""
    values = _finite(values)
    if len(values) < 2:
        return None, None
    return _mean_interval(values, _resampled_means(values, num_resamples, seed), seed, level)


def _mean_interval(values: np.ndarray, means: np.ndarray, seed: int, level: float) -> tuple[float, float]:
    """Of at least two `values`, whose bootstrap drew the `means`."""
    low, high = (float(end) for end in np.quantile(means, _tails(level)))
    if len(values) >= FEW:
        return low, high
    mean, error = float(values.mean()), _error_of_mean(values)
    half = float(stdtrit(len(values) - 1, _tails(level)[1])) * float(error)
    low, high = min(low, mean - half), max(high, mean + half)
    resampled = values[np.random.default_rng(seed).integers(len(values), size=(len(means), len(values)))]
    errors = _error_of_mean(resampled)
    varied = errors > 1e-6 * error  # one value drawn again and again has no error but rounding's
    if varied.any():  # bootstrap-t: Efron & Tibshirani 1993, ch. 12.5
        ratios = (resampled.mean(axis=1) - mean)[varied] / errors[varied]
        below, above = np.quantile(ratios, _tails(level))
        low, high = min(low, mean - float(above * error)), max(high, mean - float(below * error))
    return low, high


def _error_of_mean(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the last axis."""
    return np.asarray(values.std(axis=-1, ddof=1) / np.sqrt(values.shape[-1]))


def jackknife_interval(
    compute: Compute, rows: np.ndarray, *, num_groups: int = MAX_GROUPS, seed: int = 0, level: float = 0.95, sets: np.ndarray | None = None
) -> Interval:
    """estimate +- t x SE from deleting each of `num_groups` random groups of clips in turn (Wolter 2007, ch. 4.2.1).

    sets: (N,) int, which of several independent sets a row belongs to: groups are deleted from one at a time and their variances added.
    """
    rows = np.asarray(rows)
    error, freedom = _jackknife_error(lambda keep: compute(rows[keep]), len(rows), num_groups, seed, sets)
    estimate = compute(rows) if len(rows) else float("nan")
    if error is None or not np.isfinite(estimate):
        return None, None
    half = stdtrit(freedom, _tails(level)[1]) * error
    return float(estimate - half), float(estimate + half)


def paired_bootstrap(a: np.ndarray, b: np.ndarray, *, num_resamples: int = 10_000, seed: int = 0, level: float = 0.95) -> PairedDifference:
    """Mean of b - a over the clips that have both, its interval and bootstrap p-value (Efron & Tibshirani 1993, ch. 16.4).

    a, b: (N,) values of the same clips in the same order. The p-value shifts the resampled differences to mean zero
    and cannot fall below 1 / (num_resamples + 1); of fewer than 50 clips it is at least that of Student's t.
    """
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired values must be two vectors of the same clips, got {a.shape} and {b.shape}")
    differences = _finite(np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64))
    if len(differences) < 2:
        return NOTHING
    observed = float(differences.mean())
    means = _resampled_means(differences, num_resamples, seed)
    low, high = _mean_interval(differences, means, seed, level)
    extreme = np.count_nonzero(np.abs(means - observed) >= abs(observed) * (1 - 1e-12))
    p_value = (1 + int(extreme)) / (num_resamples + 1)
    error = float(_error_of_mean(differences))
    if len(differences) < FEW and error > 0:
        p_value = max(p_value, float(2 * stdtr(len(differences) - 1, -abs(observed) / error)))
    return PairedDifference(difference=observed, ci_low=low, ci_high=high, p_value=p_value, num_clips=len(differences))


def paired_resampled(
    compute: Compute, rows_a: np.ndarray, rows_b: np.ndarray, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0, level: float = 0.95
) -> PairedDifference:
    """compute(rows_b) - compute(rows_a), rows (N, ...) of the same clips, resampled together; p as of `paired_bootstrap`."""
    if rows_a.shape[0] != rows_b.shape[0]:
        raise ValueError(f"paired rows must be of the same clips, got {rows_a.shape[0]} and {rows_b.shape[0]}")
    if len(rows_a) < 3:
        return NOTHING
    observed = compute(rows_b) - compute(rows_a)
    resampled = [compute(rows_b[kept]) - compute(rows_a[kept]) for kept in _resamples(len(rows_a), num_resamples, seed)]
    differences = np.array(resampled)
    low, high = np.quantile(differences, _tails(level))
    extreme = np.count_nonzero(np.abs(differences - observed) >= abs(observed) * (1 - 1e-12))
    p_value = (1 + int(extreme)) / (num_resamples + 1)
    return PairedDifference(difference=float(observed), ci_low=float(low), ci_high=float(high), p_value=p_value, num_clips=len(rows_a))


def paired_jackknife(
    compute: Compute,
    rows_a: np.ndarray,
    rows_b: np.ndarray,
    *,
    num_groups: int = MAX_GROUPS,
    seed: int = 0,
    level: float = 0.95,
    compute_b: Compute | None = None,
    sets: np.ndarray | None = None,
) -> PairedDifference:
    """compute(rows_b) - compute(rows_a) for a distribution metric: the same clips are deleted from both, so what they share cancels.

    rows_a, rows_b: (N, ...) rows of the same clips in the same order. p from Student's t with num_groups - 1 degrees of freedom.
    sets: as of `jackknife_interval`.
    """
    num_rows = rows_a.shape[0]  # of an array, or of a csr_array
    if num_rows != rows_b.shape[0]:
        raise ValueError(f"paired rows must be of the same clips, got {num_rows} and {rows_b.shape[0]}")

    def difference(keep: np.ndarray) -> float:
        return (compute_b or compute)(rows_b[keep]) - compute(rows_a[keep])

    error, freedom = _jackknife_error(difference, num_rows, num_groups, seed, sets)
    observed = difference(np.arange(num_rows)) if num_rows else float("nan")
    if error is None or not np.isfinite(observed):
        return NOTHING
    half = float(stdtrit(freedom, _tails(level)[1]) * error)
    p_value = float(2 * stdtr(freedom, -abs(observed) / error)) if error > 0 else float(observed == 0)
    return PairedDifference(
        difference=float(observed),
        ci_low=float(observed - half),
        ci_high=float(observed + half),
        p_value=p_value,
        num_clips=num_rows,
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of a family of p-values (Holm 1979); None stays None and does not count."""
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(tested):
        running = max(running, min(1.0, p * (len(tested) - rank)))
        adjusted[i] = running
    return adjusted


def _jackknife_error(
    evaluate: Callable[[np.ndarray], float], num_rows: int, num_groups: int, seed: int, sets: np.ndarray | None = None
) -> tuple[float | None, float]:
    """Standard error of evaluate(all rows) and its degrees of freedom; None where it cannot be had.

    Groups of unequal size (they differ by one row at most) enter with equal weight: at 40 groups of 25 or 26 that is a 4 % matter.
    Of several sets, the degrees of freedom of a sum of variances are Satterthwaite's (1946).
    """
    rng = np.random.default_rng(seed)
    everything = np.arange(num_rows)
    found = []
    for members in [everything] if sets is None else [everything[sets == name] for name in np.unique(sets)]:
        order, others = rng.permutation(members), np.setdiff1d(everything, members)
        groups = min(num_groups, len(members))
        if groups < 3:
            return None, groups - 1
        kept = (np.delete(order, group) for group in _group_slices(len(members), groups))
        replicates = np.array([evaluate(np.sort(np.concatenate([keep, others]))) for keep in kept])
        if not np.isfinite(replicates).all():
            return None, groups - 1
        spread = np.square(replicates - replicates.mean()).sum()
        found.append((float((groups - 1) / groups * spread), groups - 1))
    total = sum(variance for variance, _ in found)
    if len(found) == 1 or not total:
        return float(np.sqrt(total)), min((freedom for _, freedom in found), default=-1)
    return float(np.sqrt(total)), total**2 / sum(variance**2 / freedom for variance, freedom in found)


def _group_slices(num_rows: int, num_groups: int) -> Iterator[slice]:
    edges = np.linspace(0, num_rows, num_groups + 1).round().astype(int)
    return (slice(int(start), int(stop)) for start, stop in pairwise(edges))


def _resampled_means(values: np.ndarray, num_resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chunk = max(1, _DRAWS_AT_ONCE // len(values))
    means = np.empty(num_resamples)
    for start in range(0, num_resamples, chunk):
        stop = min(start + chunk, num_resamples)
        means[start:stop] = values[rng.integers(len(values), size=(stop - start, len(values)))].mean(axis=1)
    return means


def _resamples(count: int, num_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Indices (count,) of each resample, the same for the same count and seed."""
    rng = np.random.default_rng(seed)
    return (rng.integers(count, size=count) for _ in range(num_resamples))


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return values[np.isfinite(values)]


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    return (1 - level) / 2, (1 + level) / 2
