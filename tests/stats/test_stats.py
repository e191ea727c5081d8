"""Intervals and paired tests, against scipy and against simulations with a known answer."""

from functools import partial

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from avbench.stats import (
    bootstrap_interval,
    holm,
    jackknife_interval,
    mean_interval,
    paired_bootstrap,
    paired_jackknife,
    paired_resampled,
    resampled_interval,
)


def mean(rows):
    return float(np.nanmean(rows))


interval_of_mean = partial(bootstrap_interval, mean, per_clip=True)
interval_of_value = partial(bootstrap_interval, per_clip=False)


def frechet(rows):
    """Fréchet distance of rows[:, 0] and rows[:, 1], rows (N, 2, D)."""
    a, b = rows[:, 0], rows[:, 1]
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def gaussian_pairs(num_clips, size, rng, shift=0.2):
    reference = rng.standard_normal((num_clips, size))
    return np.stack([reference, 0.8 * reference + 0.4 * rng.standard_normal((num_clips, size)) + shift], axis=1)


def test_the_mean_interval_agrees_with_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).gamma(2.0, 3.0, size=101)
    low, high = mean_interval(values, num_resamples=20_000, seed=1)
    oracle = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2))
    width = high - low
    assert low == pytest.approx(oracle.confidence_interval.low, abs=0.03 * width)
    assert high == pytest.approx(oracle.confidence_interval.high, abs=0.03 * width)


def test_the_mean_interval_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        low, high = interval_of_mean(rng.normal(3.0, 2.0, size=60), num_resamples=500, seed=trial)
        hits += low <= 3.0 <= high
    assert 0.91 <= hits / 400 <= 0.98


@pytest.mark.parametrize(
    ("count", "draw", "truth", "least"),
    [
        (10, lambda rng: rng.normal(3.0, 2.0, size=10), 3.0, 0.94),
        (10, lambda rng: rng.exponential(size=10), 1.0, 0.91),
        (25, lambda rng: rng.lognormal(0.0, 1.0, size=25), np.exp(0.5), 0.90),
        (25, lambda rng: (rng.random(25) < 0.2) * 1.0, 0.2, 0.93),
    ],
    ids=["normal", "exponential", "lognormal", "share"],
)
def test_intervals_of_few_clips_cover_more_than_the_percentile_bootstrap_does(count, draw, truth, least):
    """The percentile bootstrap alone: 91, 86, 86 and 95 % (benchmarks/small_samples.py)."""
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(400):
        low, high = mean_interval(draw(rng), num_resamples=400, seed=trial)
        hits += low <= truth <= high
    assert hits / 400 >= least


def test_the_interval_of_few_clips_holds_students_and_that_of_fifty_is_the_bootstraps():
    values = np.random.default_rng(0).exponential(size=50)
    for count in (2, 5, 20, 49):
        few = values[:count]
        low, high = mean_interval(few)
        student = scipy.stats.t.interval(0.95, count - 1, few.mean(), scipy.stats.sem(few))
        assert low <= student[0] + 1e-12
        assert high >= student[1] - 1e-12
    low, high = mean_interval(values, num_resamples=20_000)
    oracle = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2))
    assert (low, high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.03 * (high - low))


def test_a_paired_difference_of_few_clips_is_no_surer_than_students_t():
    a = np.random.default_rng(0).normal(size=8)
    b = a + np.random.default_rng(1).normal(0.3, 0.3, size=8)
    found = paired_bootstrap(a, b)
    assert found.p_value >= scipy.stats.ttest_rel(b, a).pvalue - 1e-9
    assert found.ci_low <= scipy.stats.t.interval(0.95, 7, (b - a).mean(), scipy.stats.sem(b - a))[0] + 1e-12


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).normal(size=50)
    assert interval_of_mean(values, seed=3) == interval_of_mean(values, seed=3)
    assert interval_of_mean(values, seed=3) != interval_of_mean(values, seed=4)


def test_clips_without_a_value_are_left_out_of_the_interval():
    values = np.random.default_rng(0).normal(size=50)
    gaps = np.insert(values, [0, 10, 50], np.nan)
    assert interval_of_mean(gaps, seed=0) == interval_of_mean(values, seed=0)


@pytest.mark.parametrize("values", [[], [1.0], [np.nan, np.nan], [np.nan, 2.0]])
def test_fewer_than_two_values_have_no_interval(values):
    assert interval_of_mean(np.array(values)) == (None, None)


def test_equal_values_have_an_interval_of_no_width():
    assert interval_of_mean(np.full(20, 4.5)) == (4.5, 4.5)


@given(st.lists(st.floats(-1e6, 1e6), min_size=50, max_size=60), st.floats(-1e3, 1e3))
@settings(max_examples=50, deadline=None)
def test_the_interval_lies_within_the_values_and_moves_with_them(values, shift):
    rows = np.array(values)
    low, high = mean_interval(rows, num_resamples=100)
    slack = 1e-6 * (1 + np.abs(rows).max() + abs(shift))
    assert rows.min() - slack <= low <= high <= rows.max() + slack
    assert mean_interval(rows + shift, num_resamples=100) == pytest.approx((low + shift, high + shift), abs=slack)


@pytest.mark.parametrize("values", [[0.1] * 7 + [1e6], [5.0, 5.0 + 1e-9], [1e-300, 1.0, 1.0], [0.1, 0.1, 0.1]])
def test_the_interval_of_few_odd_values_is_finite_and_moves_with_them(values):
    low, high = mean_interval(np.array(values))
    assert low <= np.mean(values) <= high
    assert high - low < 1e3 * (max(values) - min(values)) + 1e-9
    assert mean_interval(np.array(values) + 64) == pytest.approx((low + 64, high + 64), abs=1e-3 * (high - low) + 1e-9)


def test_chunked_resampling_keeps_a_large_split_within_memory_and_right():
    values = np.random.default_rng(0).normal(size=15_000)
    low, high = mean_interval(values, num_resamples=1000)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(15_000), rel=0.1)


def test_a_one_number_metric_that_is_no_mean_gets_the_jackknife():
    values = np.random.default_rng(0).gamma(2.0, size=80)
    deviation = lambda rows: float(np.std(rows, ddof=1))  # noqa: E731
    assert interval_of_value(deviation, values) == jackknife_interval(deviation, values)


def test_the_delete_one_jackknife_of_a_mean_is_the_textbook_standard_error():
    values = np.random.default_rng(0).normal(size=30)
    low, high = jackknife_interval(mean, values, num_groups=30)
    half = scipy.stats.t.ppf(0.975, 29) * values.std(ddof=1) / np.sqrt(30)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_deleting_from_two_sets_apart_is_welchs_interval_of_a_difference_of_means():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 12), rng.normal(1, 3, 30)
    sets = np.repeat([0, 1], [12, 30])

    def difference(kept):
        return float(both[kept][sets[kept] == 0].mean() - both[kept][sets[kept] == 1].mean())

    both = np.concatenate([a, b])
    low, high = jackknife_interval(difference, np.arange(42), sets=sets)
    expected = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_the_frechet_interval_holds_its_estimate_and_covers_where_the_percentile_bootstrap_fails():
    """Mean of the estimate at N = 100, D = 16, from 400 draws. benchmarks/intervals.py is the long version."""
    rng = np.random.default_rng(5)
    expected = np.mean([frechet(gaussian_pairs(100, 16, rng)) for _ in range(400)])
    ours = percentile = 0
    for trial in range(60):
        rows = gaussian_pairs(100, 16, rng)
        low, high = interval_of_value(frechet, rows, seed=trial)
        assert low <= frechet(rows) <= high
        ours += low <= expected <= high
        resampled = [frechet(rows[rng.integers(100, size=100)]) for _ in range(60)]
        percentile += np.quantile(resampled, 0.025) <= expected <= np.quantile(resampled, 0.975)
    assert ours / 60 >= 0.9
    assert percentile / 60 <= 0.6


def test_identical_features_have_distance_zero_and_no_width():
    reference = np.random.default_rng(0).standard_normal((40, 5))
    low, high = interval_of_value(frechet, np.stack([reference, reference], axis=1))
    assert (low, high) == pytest.approx((0, 0), abs=1e-6)


def test_a_distribution_metric_is_evaluated_at_most_forty_one_times_for_an_interval():
    calls = []
    interval_of_value(lambda rows: calls.append(len(rows)) or 1.0, np.zeros((500, 3)), num_resamples=2000)
    assert len(calls) <= 41
    assert sum(500 - size for size in calls if size < 500) == 500  # every clip is deleted exactly once


def test_a_metric_that_gives_nan_without_some_clips_has_no_interval():
    assert interval_of_value(lambda rows: float("nan"), np.zeros((10, 2))) == (None, None)
    assert interval_of_mean(np.zeros((0, 2))) == (None, None)


def test_the_paired_interval_agrees_with_scipy_on_the_differences():
    rng = np.random.default_rng(0)
    a = rng.normal(20, 5, size=101)
    b = a + rng.normal(0.3, 1.0, size=101)
    test = paired_bootstrap(a, b, seed=0)
    oracle = scipy.stats.bootstrap((b - a,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1))
    assert test.difference == pytest.approx((b - a).mean())
    assert (test.ci_low, test.ci_high) == pytest.approx(tuple(oracle.confidence_interval), abs=0.02)
    assert test.p_value == pytest.approx(scipy.stats.ttest_rel(b, a).pvalue, abs=0.01)


def test_pairing_shows_a_small_steady_gain_that_the_separate_intervals_hide():
    rng = np.random.default_rng(0)
    a = rng.normal(20, 5, size=101)
    b = a + 0.2 + rng.normal(0, 0.1, size=101)
    assert paired_bootstrap(a, b).p_value < 0.001
    assert mean_interval(a)[1] > mean_interval(b)[0]


def test_swapping_the_runs_negates_the_difference():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 60))
    forward, backward = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert forward.difference == -backward.difference
    assert (forward.ci_low, forward.ci_high) == pytest.approx((-backward.ci_high, -backward.ci_low))
    assert forward.p_value == backward.p_value


def test_under_no_difference_one_comparison_in_twenty_is_significant():
    rng = np.random.default_rng(0)
    p_values = [paired_bootstrap(*rng.normal(size=(2, 40)), num_resamples=500, seed=i).p_value for i in range(400)]
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.09


def test_identical_runs_show_no_difference():
    values = np.random.default_rng(0).normal(size=20)
    test = paired_bootstrap(values, values)
    assert (test.difference, test.ci_low, test.ci_high, test.p_value) == (0.0, 0.0, 0.0, 1.0)
    rows = gaussian_pairs(40, 4, np.random.default_rng(0))
    assert paired_jackknife(frechet, rows, rows).p_value == 1.0


def test_only_clips_with_a_value_in_both_runs_are_paired():
    a = np.array([1.0, np.nan, 3.0, 4.0, 5.0])
    b = np.array([2.0, 9.0, np.inf, 5.0, 6.0])
    test = paired_bootstrap(a, b)
    assert (test.num_clips, test.difference) == (3, 1.0)


def test_pairing_of_a_distribution_metric_cancels_the_noise_that_both_runs_share():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((200, 6))
    noise = rng.standard_normal((200, 6))
    a = np.stack([reference, reference + 0.5 * noise], axis=1)
    b = np.stack([reference, reference + 0.55 * noise], axis=1)
    test = paired_jackknife(frechet, a, b)
    assert test.difference == pytest.approx(frechet(b) - frechet(a))
    alone = [high - low for low, high in (jackknife_interval(frechet, rows) for rows in (a, b))]
    assert test.ci_high - test.ci_low < 0.5 * min(alone)
    assert test.p_value < 0.001


def test_under_no_difference_the_paired_jackknife_is_rarely_significant():
    rng = np.random.default_rng(0)
    significant = 0
    for trial in range(150):
        reference = rng.standard_normal((80, 3))
        a, b = (np.stack([reference, reference + 0.5 * rng.standard_normal((80, 3))], axis=1) for _ in range(2))
        significant += paired_jackknife(frechet, a, b, seed=trial).p_value < 0.05
    assert significant / 150 <= 0.1


def test_rows_of_different_clips_cannot_be_paired():
    with pytest.raises(ValueError, match="same clips"):
        paired_bootstrap(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="same clips"):
        paired_jackknife(frechet, np.zeros((3, 2, 2)), np.zeros((4, 2, 2)))


def test_holm_agrees_with_a_worked_example_and_skips_what_was_not_tested():
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    by_p = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_outside_zero_to_one_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        mean_interval(np.arange(5.0), level=level)


def median(rows):
    return float(np.median(rows))


def test_the_interval_of_a_median_agrees_with_scipy_and_covers_where_the_jackknife_fails():
    rng = np.random.default_rng(0)
    values = rng.exponential(size=(101, 1))
    low, high = resampled_interval(median, values, num_resamples=5000)
    oracle = scipy.stats.bootstrap((values[:, 0],), np.median, n_resamples=5000, method="percentile", rng=np.random.default_rng(2))
    assert low == pytest.approx(oracle.confidence_interval.low, abs=0.1 * (high - low))
    assert high == pytest.approx(oracle.confidence_interval.high, abs=0.1 * (high - low))
    hits = {resampled_interval: 0, jackknife_interval: 0}
    for draw in rng.exponential(size=(100, 40)):
        for interval in hits:
            options = {"num_resamples": 200} if interval is resampled_interval else {}
            low, high = interval(median, draw, **options)
            hits[interval] += low <= np.log(2) <= high
    assert hits[resampled_interval] >= 88
    assert hits[jackknife_interval] < hits[resampled_interval]


def test_two_medians_are_compared_on_the_same_resamples():
    rng = np.random.default_rng(0)
    a = rng.normal(0, 10, size=(60, 1))
    gain = paired_resampled(median, a, a + 0.5 + rng.normal(0, 0.1, size=a.shape))
    assert gain.difference == pytest.approx(0.5, abs=0.2)
    assert gain.ci_low > 0
    assert gain.p_value < 0.01
    same = paired_resampled(median, a, a)
    assert (same.difference, same.ci_low, same.ci_high, same.p_value) == (0, 0, 0, 1)
    assert paired_resampled(median, a[:2], a[:2]).difference is None
    assert resampled_interval(median, a[:2]) == (None, None)
    with pytest.raises(ValueError, match="same clips"):
        paired_resampled(median, a, a[:3])
