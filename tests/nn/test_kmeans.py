"""avbench.nn.kmeans against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from avbench.nn.kmeans import Search, assign, kmeans_anywhere, lloyd, nearest, nearest_of_products


@pytest.mark.parametrize("search", [nearest, nearest_of_products])
def test_lloyds_rounds_are_those_of_scikit_learn(search: Search) -> None:
    points = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    seeds = points[:12]
    expected = KMeans(12, init=seeds, n_init=1, max_iter=4, tol=0, algorithm="lloyd").fit(points)
    ours = lloyd(torch.from_numpy(points), torch.from_numpy(seeds), 4, search=search)
    assert np.allclose(ours.numpy(), expected.cluster_centers_, atol=1e-4)


def test_kmeans_anywhere_is_as_good_as_scikit_learns() -> None:
    points = torch.randn(3000, 6, generator=torch.Generator().manual_seed(3))
    ours = assign(points, kmeans_anywhere(points, 100, iterations=30))[1].sum()
    theirs = KMeans(100, n_init=1, random_state=0).fit(points.numpy()).inertia_
    assert ours < 1.03 * theirs


def test_kmeans_anywhere_leaves_no_centre_without_points_and_is_the_same_for_the_same_seed() -> None:
    points = torch.randn(3000, 5, generator=torch.Generator().manual_seed(5))
    book = kmeans_anywhere(points, 200, seed=1)
    assert assign(points, book)[0].unique().numel() > 195
    assert torch.equal(book, kmeans_anywhere(points, 200, seed=1))


def test_kmeans_anywhere_of_fewer_points_than_centres_covers_every_point() -> None:
    points = torch.randn(10, 5, generator=torch.Generator().manual_seed(6))
    assert assign(points, kmeans_anywhere(points, 32))[1].max() < 1e-4
