"""FVD and FAD at infinitely many clips: a line whose end is known, and normals whose distance is."""

import numpy as np
import pytest

from avbench.metrics.extrapolated import FadAisfxInf, FvdInf, at_infinity, subset_counts
from avbench.metrics.frechet import frechet_from_features

RNG = np.random.default_rng(0)


def test_a_line_over_one_over_n_is_read_at_infinity() -> None:
    counts = np.array([50, 60, 80, 100])
    assert at_infinity(counts, 7.0 + 300 / counts) == pytest.approx(7.0)


def test_numbers_of_clips_go_from_half_to_all() -> None:
    assert subset_counts(100).tolist() == [50, 54, 58, 64, 70, 78, 88, 100]


def test_of_two_samples_of_one_normal_it_is_nearer_to_zero() -> None:
    metric = FvdInf.__new__(FvdInf)  # without its network: `compute` looks at rows alone
    rows = RNG.normal(size=(400, 2, 20))
    plain = frechet_from_features(rows[:, 0], rows[:, 1])
    assert plain > 0.5
    assert abs(metric.compute(rows)) < plain / 4


def test_a_known_shift_is_found() -> None:
    metric = FadAisfxInf.__new__(FadAisfxInf)
    shift = np.zeros(8)
    shift[:2] = 3, 4
    rows = np.stack([RNG.normal(size=(500, 2, 8)), RNG.normal(size=(500, 2, 8)) + shift], axis=1)
    assert metric.compute(rows) == pytest.approx(25, abs=1.0)


def test_the_same_clips_are_at_distance_zero_and_the_value_is_the_same_each_time() -> None:
    metric = FvdInf.__new__(FvdInf)
    clips = RNG.normal(size=(30, 5))
    assert metric.compute(np.stack([clips, clips], axis=1)) == pytest.approx(0, abs=1e-6)
    rows = RNG.normal(size=(30, 2, 5))
    assert metric.compute(rows) == metric.compute(rows)
