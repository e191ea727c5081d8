"""Kernel distances: how far two sets of clips are apart, without bias, so that a hundred clips do.

    MMD^2 = mean over i != j of k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)

Gretton et al. (2012), "A kernel two-sample test", equation 4. A Gaussian fitted to N features of D numbers makes FVD and FAD large where
N is small; this has the same expectation at every N, and is below 0 half of the time where the two sets are alike.

A reconstruction belongs to its reference: a pair of one clip's own features is left out, as are windows of one clip. With them
(Binkowski et al. 2018 and kadtk keep them, for sets without pairs) `identity` would be better than perfect, and is exactly 0 here.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from avbench.metric import GENERATION, RECONSTRUCTION, MetricInfo, sides
from avbench.metrics.fad import AISFX, VGGISH, FadAisfx, FadVggish
from avbench.metrics.frechet import one_thread
from avbench.metrics.fvd import EMBEDDING, Fvd

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (N, D), (M, D) -> (N, M)

KAD_SCALE = 100  # as kadtk prints it
MOST_CLIPS = 1_000  # at a time: the matrices of more do not fit, and their mean over blocks is unbiased too (Zaremba et al. 2013)
_BANDWIDTH_CLIPS = 500  # evenly spaced: the median of 124,750 distances


def unbiased_mmd2(reference: np.ndarray, recon: np.ndarray, kernel: Kernel, *, ids: np.ndarray, recon_ids: np.ndarray) -> float:
    """Squared MMD between windows' features (N, W, D) and (M, W, D) of two sets of clips. Below 0 where chance has it.

    ids (N,), recon_ids (M,): pairs of equal id are left out, as are a clip's windows among themselves. NaN for fewer than two clips.
    """
    sums = [_between(a, b, kernel) for a, b in ((reference, reference), (recon, recon), (reference, recon))]
    others = [a[:, None] != b[None, :] for a, b in ((ids, ids), (recon_ids, recon_ids), (ids, recon_ids))]
    if not all(other.any() for other in others):
        return float("nan")
    within, within_recon, across = (float(mean[other].mean()) for mean, other in zip(sums, others, strict=True))
    return within + within_recon - 2 * across


def polynomial(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a.b / D + 1)^3: the kernel of KID (Binkowski et al. 2018) and of KVD (Unterthiner et al. 2018)."""
    return np.asarray((a @ b.T / a.shape[-1] + 1) ** 3)


def gaussian(bandwidth: float) -> Kernel:
    """exp(-|a - b|^2 / (2 bandwidth^2))."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-_squared_distances(a, b) / (2 * bandwidth**2)))

    return kernel


def median_distance(features: np.ndarray) -> float:
    """Median Euclidean distance between windows of different clips, features (N, W, D); of 500 clips, evenly spaced. 1 where it is 0."""
    chosen = features[np.unique(np.linspace(0, len(features) - 1, min(len(features), _BANDWIDTH_CLIPS)).astype(int))]
    clips, windows, dim = chosen.shape
    distances = _squared_distances(chosen.reshape(-1, dim), chosen.reshape(-1, dim))
    of = np.repeat(np.arange(clips), windows)
    apart = distances[of[:, None] < of[None, :]]
    return float(np.median(np.sqrt(apart))) or 1.0 if apart.size else 1.0


def kernel_distance(rows: np.ndarray, kernel_of: Callable[[np.ndarray], Kernel]) -> float:
    """MMD^2 of a distribution metric's rows (N, 2, D) or (N, 2, W, D); kernel_of: the kernel, from the reference's features (N, W, D)."""
    there, windows = sides(rows), rows.reshape(len(rows), 2, -1, rows.shape[-1]).astype(np.float64)
    ids, recon_ids = np.flatnonzero(there[:, 0]), np.flatnonzero(there[:, 1])
    if min(len(ids), len(recon_ids)) < 2:
        return float("nan")
    with one_thread().limit(limits=1, user_api="blas"):
        kernel = kernel_of(windows[ids, 0])
        blocks = -(-max(len(ids), len(recon_ids)) // MOST_CLIPS)
        parts = list(zip(np.array_split(ids, blocks), np.array_split(recon_ids, blocks), strict=True))
        found = [unbiased_mmd2(windows[x, 0], windows[y, 1], kernel, ids=x, recon_ids=y) for x, y in parts]
    return float(np.average(found, weights=[len(x) + len(y) for x, y in parts]))


def _between(a: np.ndarray, b: np.ndarray, kernel: Kernel) -> np.ndarray:
    """(N, M) mean of the kernel over the windows of two clips (N, W, D) and (M, W, D)."""
    dim = a.shape[-1]
    values = kernel(a.reshape(-1, dim), b.reshape(-1, dim))
    return np.asarray(values.reshape(len(a), a.shape[1], len(b), b.shape[1]).mean(axis=(1, 3)))


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None, :] - 2 * a @ b.T).clip(min=0))


def _of(info: MetricInfo, name: str, what: str, embedding: str) -> MetricInfo:
    """The facts of a kernel distance over the features of the Fréchet distance `info`."""
    return replace(
        info,
        name=name,
        protocol=f"{what}; {embedding}, kernel float64; pairs of one clip left out; blocks of at most {MOST_CLIPS:,} clips",
        min_clips=2,
        default=False,
        tasks=RECONSTRUCTION | GENERATION,
        sets=frozenset({"distribution"}),
        tolerance=5e-3,
    )


class Kvd(Fvd):
    """Kernel video distance: MMD^2 of I3D's logits, without bias."""

    info = _of(Fvd.info, "kvd", "unbiased MMD^2, (x.y/400 + 1)^3", EMBEDDING)

    def compute(self, rows: np.ndarray) -> float:
        return kernel_distance(rows, lambda reference: polynomial)


def _kad(rows: np.ndarray) -> float:
    return KAD_SCALE * kernel_distance(rows, lambda reference: gaussian(median_distance(reference)))


_KAD = f"KAD: unbiased MMD^2 x {KAD_SCALE}, Gaussian kernel, bandwidth the median distance between windows of the reference"


class KadAisfx(FadAisfx):
    """Kernel audio distance (Chung et al. 2025) under a CNN for sound effects."""

    info = _of(FadAisfx.info, "kad_aisfx", _KAD, AISFX.protocol)

    def compute(self, rows: np.ndarray) -> float:
        return _kad(rows)


class KadVggish(FadVggish):
    """Kernel audio distance under VGGish."""

    info = _of(FadVggish.info, "kad_vggish", _KAD, VGGISH.protocol)

    def compute(self, rows: np.ndarray) -> float:
        return _kad(rows)
