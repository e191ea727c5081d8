"""Density and coverage: worked by hand on a line, another library's neighbours, and what two samples of one normal must have."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from avbench.metrics.coverage import CoverageI3d, DensityAisfx, coverage, density

RNG = np.random.default_rng(0)


def test_a_line_by_hand() -> None:
    """Balls to the nearest neighbour: [-1, 1], [0, 2], [1, 5]; 0.5 lies in one, 1.5 in two, 9 in none."""
    reference = np.array([[0.0], [1.0], [3.0]])
    assert density(reference, np.array([[0.5], [1.5], [9.0]]), neighbours=1) == pytest.approx((2 + 2 + 0) / 3)
    assert coverage(reference, np.array([[0.5]]), neighbours=1) == pytest.approx(2 / 3)
    assert coverage(reference, np.array([[9.0]]), neighbours=1) == 0.0


def test_balls_are_those_of_scikit_learns_neighbours() -> None:
    reference, recon = RNG.normal(size=(40, 6)), RNG.normal(size=(30, 6))
    radii = NearestNeighbors(n_neighbors=6).fit(reference).kneighbors(reference)[0][:, 5]
    inside = np.linalg.norm(reference[:, None] - recon[None], axis=2) <= radii[:, None]
    assert density(reference, recon) == pytest.approx(inside.sum() / 5 / 30)
    assert coverage(reference, recon) == pytest.approx(inside.any(axis=1).mean())


def test_two_samples_of_one_normal_have_density_one_and_coverage_31_of_32() -> None:
    """Naeem et al., propositions 1 and 2."""
    pairs = [(RNG.normal(size=(300, 4)), RNG.normal(size=(300, 4))) for _ in range(20)]
    assert np.mean([density(*pair) for pair in pairs]) == pytest.approx(1, abs=0.05)
    assert np.mean([coverage(*pair) for pair in pairs]) == pytest.approx(31 / 32, abs=0.01)


def test_worse_clips_have_less() -> None:
    reference = RNG.normal(size=(100, 8))
    made = [reference + shift for shift in (0.0, 0.5, 1.0, 3.0)]
    assert [density(reference, clips) for clips in made] == sorted((density(reference, clips) for clips in made), reverse=True)
    assert [coverage(reference, clips) for clips in made] == sorted((coverage(reference, clips) for clips in made), reverse=True)
    assert coverage(reference, reference) == 1.0


def test_one_picture_for_all_covers_little() -> None:
    reference = RNG.normal(size=(100, 8))
    assert coverage(reference, np.repeat(reference[:1], 100, axis=0)) < 0.2


def test_a_clip_is_the_mean_of_its_windows() -> None:
    clips = RNG.normal(size=(20, 2, 3, 4))
    metric = DensityAisfx.__new__(DensityAisfx)  # without its network: `compute` looks at rows alone
    assert metric.compute(clips) == density(clips[:, 0].mean(1), clips[:, 1].mean(1))
    still = np.stack([clips[:, 0, 0], clips[:, 0, 0]], axis=1)
    assert CoverageI3d.__new__(CoverageI3d).compute(still) == 1.0


def test_too_few_clips_are_said() -> None:
    with pytest.raises(ValueError, match="6 clips, got 5 and 5"):
        density(np.zeros((5, 2)), np.zeros((5, 2)))
