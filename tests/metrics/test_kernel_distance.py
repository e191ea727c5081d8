"""Kernel distances: scikit-learn's kernels and two loops, no bias, pairs left out, known normals."""

from itertools import product

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from avbench.metrics.kernel_distance import Kvd, gaussian, kernel_distance, median_distance, polynomial, unbiased_mmd2

RNG = np.random.default_rng(0)


def rows_of(reference: np.ndarray, recon: np.ndarray) -> np.ndarray:
    return np.stack([reference, recon], axis=1)


def mean_by_loops(reference: np.ndarray, recon: np.ndarray, kernel_of_two: str) -> float:
    """Gretton's equation 4, a term at a time, a window a clip."""
    total, count = 0.0, 0
    for i, j in product(range(len(reference)), repeat=2):
        if i != j:
            x, y, other_x, other_y = reference[i], recon[i], reference[j], recon[j]
            pairs = ((x, other_x, 1), (y, other_y, 1), (x, other_y, -1), (other_x, y, -1))
            total += sum(sign * one(a, b, kernel_of_two) for a, b, sign in pairs)
            count += 1
    return total / count


def one(a: np.ndarray, b: np.ndarray, kernel: str) -> float:
    if kernel == "polynomial":
        return float(polynomial_kernel(a[None], b[None], degree=3, gamma=1 / len(a), coef0=1)[0, 0])
    return float(rbf_kernel(a[None], b[None], gamma=1 / (2 * 1.5**2))[0, 0])


@pytest.mark.parametrize(("name", "kernel"), [("polynomial", polynomial), ("gaussian", gaussian(1.5))])
def test_it_is_grettons_mean_over_pairs_with_scikit_learns_kernels(name: str, kernel: object) -> None:
    reference, recon = RNG.normal(size=(7, 5)), RNG.normal(size=(7, 5)) + 0.3
    expected = mean_by_loops(reference, recon, name)
    assert kernel_distance(rows_of(reference, recon), lambda _: kernel) == pytest.approx(expected, rel=1e-9)  # type: ignore[arg-type, return-value]


def test_of_sets_without_pairs_it_is_the_formula_that_kadtk_has() -> None:
    """Equation 3: the mean of the cross terms is over all of them."""
    x, y = RNG.normal(size=(9, 1, 4)), RNG.normal(size=(6, 1, 4)) + 1
    xx, yy, xy = (rbf_kernel(a[:, 0], b[:, 0], gamma=1 / 8) for a, b in ((x, x), (y, y), (x, y)))
    expected = (xx.sum() - 9) / (9 * 8) + (yy.sum() - 6) / (6 * 5) - 2 * xy.mean()
    found = unbiased_mmd2(x, y, gaussian(2.0), ids=np.arange(9), recon_ids=np.arange(100, 106))
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_same_clips_are_at_distance_zero_and_worse_ones_farther() -> None:
    clips = RNG.normal(size=(30, 2, 6))
    metric = Kvd.__new__(Kvd)  # without its network: `compute` looks at rows alone
    found = [metric.compute(rows_of(clips, clips + noise * RNG.normal(size=clips.shape))) for noise in (0.0, 0.5, 1.0, 2.0)]
    assert found[0] == pytest.approx(0, abs=1e-12)
    assert found == sorted(found)


def test_it_has_no_bias_at_eight_clips() -> None:
    """The mean of 4,000 distances of one normal's samples is 0 within its error, where a Gaussian's Frechet distance is far above."""
    found = np.array([kernel_distance(RNG.normal(size=(8, 2, 3)), lambda _: gaussian(2.0)) for _ in range(4_000)])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))
    assert (found < 0).mean() > 0.3


def test_a_clips_windows_are_not_compared_with_each_other() -> None:
    """Windows that repeat leave the value as it is."""
    once = RNG.normal(size=(10, 2, 1, 4))
    assert kernel_distance(np.repeat(once, 3, axis=2), lambda _: polynomial) == pytest.approx(kernel_distance(once, lambda _: polynomial))


def test_blocks_of_clips_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = RNG.normal(size=(12, 2, 4))
    parts = [kernel_distance(rows[:6], lambda _: polynomial), kernel_distance(rows[6:], lambda _: polynomial)]
    monkeypatch.setattr("avbench.metrics.kernel_distance.MOST_CLIPS", 6)
    assert kernel_distance(rows, lambda _: polynomial) == pytest.approx(np.mean(parts))


def test_two_clips_have_a_value_and_one_has_none() -> None:
    rows = RNG.normal(size=(2, 2, 4))
    assert np.isfinite(kernel_distance(rows, lambda _: polynomial))
    assert np.isnan(kernel_distance(rows[:1], lambda _: polynomial))


def test_sides_that_are_not_there_do_not_count() -> None:
    rows = RNG.normal(size=(5, 2, 4))
    fuller = np.concatenate([rows, np.full((1, 2, 4), np.nan)])
    assert kernel_distance(fuller, lambda _: polynomial) == kernel_distance(rows, lambda _: polynomial)


def test_the_bandwidth_is_the_median_between_clips_and_one_where_all_are_equal() -> None:
    assert median_distance(np.array([[[0.0], [100.0]], [[3.0], [103.0]]])) == pytest.approx((3 + 97) / 2)  # 3, 103, 97, 3
    assert median_distance(np.zeros((4, 2, 3))) == 1.0
