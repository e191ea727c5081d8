"""Principal components of pictures are those of scikit-learn's exact PCA."""

import numpy as np
import torch
from sklearn.decomposition import PCA

from avbench.nn.linear_vq import pca, pca_of_pictures


def _pictures() -> torch.Tensor:
    """60 pictures of 5,000 values, of which ten directions matter: uint8."""
    generator = torch.Generator().manual_seed(0)
    strengths = 2.0 ** -torch.arange(10)
    mixed = (torch.randn(60, 10, generator=generator) * strengths) @ torch.randn(10, 5000, generator=generator)
    return (128 + 30 * mixed + torch.randn(60, 5000, generator=generator)).clamp(0, 255).to(torch.uint8)


def test_components_of_pictures_span_what_scikit_learns_exact_pca_spans() -> None:
    pictures = _pictures()
    mean, components = pca_of_pictures(pictures, 8)
    exact = PCA(8, svd_solver="full").fit(pictures.double().numpy() / 255)
    np.testing.assert_allclose(mean.numpy(), exact.mean_, atol=1e-6)
    assert components.shape == (5000, 8)
    np.testing.assert_allclose((components.T @ components).numpy(), np.eye(8), atol=1e-4)
    cosines = np.abs(np.sum(components.T.numpy() * exact.components_, axis=1))  # one by one, strongest first
    np.testing.assert_allclose(cosines, 1, atol=1e-3)


def test_the_randomised_one_agrees_with_it() -> None:
    sample = _pictures().float() / 255
    mean, components = pca(sample, 5)
    other_mean, other = pca_of_pictures(_pictures(), 5)
    torch.testing.assert_close(mean, other_mean, atol=1e-6, rtol=0)
    torch.testing.assert_close((components * other).sum(0).abs(), torch.ones(5), atol=1e-3, rtol=0)
