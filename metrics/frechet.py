"""Fréchet distance between Gaussians: what FVD and FAD are made of.

    d^2 = |mean_a - mean_b|^2 + Tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))

Dowson & Landau (1982), "The Fréchet distance between multivariate normal distributions"; as FID: Heusel et al. (2017).
Tr (cov_a cov_b)^(1/2) equals the sum of the singular values of L_a^T L_b where cov = L L^T. With L from symmetric
eigendecomposition (or straight from centred features) no square root of a non-symmetric matrix, and so no complex
noise, ever arises.
"""

from functools import lru_cache

import numpy as np
from threadpoolctl import ThreadpoolController

DDOF = 1  # covariance / (N - 1), as in TF-GAN's and most published FVD


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Squared Fréchet distance between N(mean_a, cov_a) and N(mean_b, cov_b); means (D,), covariances (D, D) symmetric, float64."""
    mean_a, mean_b = np.asarray(mean_a, np.float64), np.asarray(mean_b, np.float64)
    with one_thread().limit(limits=1, user_api="blas"):
        factor_a, factor_b = _factor(np.asarray(cov_a, np.float64)), _factor(np.asarray(cov_b, np.float64))
        return _distance(mean_a, factor_a, mean_b, factor_b)


def frechet_from_features(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared Fréchet distance between Gaussians fitted to features (N, D) and (M, D); covariance with ddof 1. Needs N, M >= 2.

    Equals `frechet_distance` of means and covariances; for N < D it works with N x M matrices instead of D x D ones.
    """
    features_a, features_b = np.asarray(features_a, np.float64), np.asarray(features_b, np.float64)
    if min(len(features_a), len(features_b)) <= DDOF:
        raise ValueError(f"a covariance needs at least {DDOF + 1} clips, got {len(features_a)} and {len(features_b)}")
    mean_a, mean_b = features_a.mean(axis=0), features_b.mean(axis=0)
    with one_thread().limit(limits=1, user_api="blas"):
        return _distance(mean_a, _factor_of(features_a - mean_a), mean_b, _factor_of(features_b - mean_b))


@lru_cache(maxsize=1)
def one_thread() -> ThreadpoolController:
    """Matrices of a few hundred a side gain nothing from threads and lose on a busy machine: 0.03 s against 0.1 to 6 s measured."""
    return ThreadpoolController()


def _distance(mean_a: np.ndarray, factor_a: np.ndarray, mean_b: np.ndarray, factor_b: np.ndarray) -> float:
    """Factors are (D, K) with cov = factor @ factor.T, so Tr(cov) is the sum of the factor's squares."""
    shift = float(np.square(mean_a - mean_b).sum())
    traces = float(np.square(factor_a).sum() + np.square(factor_b).sum())
    nuclear_norm = float(np.linalg.svd(factor_a.T @ factor_b, compute_uv=False).sum())
    return max(shift + traces - 2 * nuclear_norm, 0.0)  # below 0 only by rounding


def _factor(cov: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(values.clip(min=0))  # negative only by rounding


def _factor_of(centred: np.ndarray) -> np.ndarray:
    """(D, min(N, D)) factor of the covariance of centred features (N, D)."""
    scaled = centred / np.sqrt(len(centred) - DDOF)
    if len(scaled) <= scaled.shape[1]:
        return scaled.T
    upper = np.asarray(np.linalg.qr(scaled, mode="r"))  # cov = upper^T upper
    return upper.T
