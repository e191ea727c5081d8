"""Fréchet distance: closed forms, scipy's matrix square root, and the bias for few samples."""

import numpy as np
import pytest
import scipy.linalg

from avbench.metrics.frechet import frechet_distance, frechet_from_features


def _oracle(a: np.ndarray, b: np.ndarray) -> float:
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    return float(shift + np.trace(cov_a + cov_b - 2 * np.real(root)))


def test_equal_covariances_leave_the_squared_distance_of_the_means() -> None:
    assert frechet_distance(np.zeros(2), np.eye(2), np.array([3.0, 4.0]), np.eye(2)) == pytest.approx(25)


def test_diagonal_covariances_have_a_closed_form() -> None:
    assert frechet_distance(np.zeros(2), np.diag([1.0, 4.0]), np.zeros(2), np.diag([4.0, 9.0])) == pytest.approx(2)


@pytest.mark.parametrize("count", [30, 9])
def test_it_agrees_with_scipys_square_root_for_many_and_for_few_samples(count: int) -> None:
    generator = np.random.default_rng(0)
    a = generator.standard_normal((count, 12)) @ generator.standard_normal((12, 12))
    b = generator.standard_normal((count + 3, 12)) + 0.5
    direct = frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))
    assert direct == pytest.approx(_oracle(a, b), rel=1e-4)
    assert frechet_from_features(a, b) == pytest.approx(direct, rel=1e-7)


def test_identical_sets_are_at_distance_zero_even_with_a_singular_covariance() -> None:
    features = np.random.default_rng(0).standard_normal((10, 400)).astype(np.float32)
    assert frechet_from_features(features, features) == pytest.approx(0, abs=1e-8)
    constant = np.ones((5, 400))
    assert frechet_from_features(constant, constant) == 0


def test_the_order_of_the_sets_and_of_their_samples_does_not_matter() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 40, 20))
    assert frechet_from_features(a, b) == pytest.approx(frechet_from_features(b[::-1], a[::-1]), rel=1e-9)


@pytest.mark.parametrize(("count", "expected", "tolerance"), [(128, 433, 8), (512, 159, 3)])
def test_two_samples_of_one_normal_are_apart_by_the_known_bias(count: int, expected: float, tolerance: float) -> None:
    a, b = np.random.default_rng(1).standard_normal((2, count, 400))
    assert frechet_from_features(a, b) == pytest.approx(expected, abs=tolerance)


def test_one_sample_has_no_covariance_and_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 clips"):
        frechet_from_features(np.zeros((1, 4)), np.zeros((5, 4)))
