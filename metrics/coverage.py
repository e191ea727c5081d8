"""Density and coverage: Naeem et al. (2020), "Reliable fidelity and diversity metrics for generative models".

Each real clip has a ball that reaches to its k-th nearest real neighbour. Density: how many balls an average made clip lies in, over k
(fidelity; above 1 where clips crowd in dense places). Coverage: the share of balls that hold a made clip (diversity; at most 1).
Two samples of one distribution have density 1 and coverage 1 - 2^-k = 0.97, whatever their number.
"""

from dataclasses import replace

import numpy as np
from scipy.spatial.distance import cdist

from avbench.metric import GENERATION, RECONSTRUCTION, MetricInfo, sides
from avbench.metrics.fad import AISFX, FadAisfx
from avbench.metrics.fvd import EMBEDDING, Fvd

NEIGHBOURS = 5


def density(reference: np.ndarray, recon: np.ndarray, *, neighbours: int = NEIGHBOURS) -> float:
    """Of features (N, D) and (M, D); 0 or more. Needs N > neighbours, M >= 1."""
    return float(_inside(reference, recon, neighbours).sum(axis=0).mean() / neighbours)


def coverage(reference: np.ndarray, recon: np.ndarray, *, neighbours: int = NEIGHBOURS) -> float:
    """Of features (N, D) and (M, D); 0 to 1. Needs N > neighbours, M >= 1."""
    return float(_inside(reference, recon, neighbours).any(axis=1).mean())


def _inside(reference: np.ndarray, recon: np.ndarray, neighbours: int) -> np.ndarray:
    """bool (N, M): which made clip lies in which real clip's ball, its border included."""
    if len(reference) <= neighbours or not len(recon):
        raise ValueError(f"a ball to the {neighbours}th neighbour needs {neighbours + 1} clips, got {len(reference)} and {len(recon)}")
    reference, recon = reference.astype(np.float64), recon.astype(np.float64)
    radii = np.partition(cdist(reference, reference), neighbours, axis=1)[:, neighbours]  # the nearest is the clip itself
    return np.asarray(cdist(reference, recon) <= radii[:, None])


def _clip_means(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) and (M, D) of rows (N, 2, D) or (N, 2, W, D): a clip is the mean of its windows."""
    there, means = sides(rows), rows.reshape(len(rows), 2, -1, rows.shape[-1]).mean(axis=2)
    return means[there[:, 0], 0], means[there[:, 1], 1]


def _of(info: MetricInfo, name: str, what: str, embedding: str) -> MetricInfo:
    return replace(
        info,
        name=name,
        higher_is_better=True,
        protocol=f"{what}, k = {NEIGHBOURS}, Euclidean; {embedding}; mean over a clip's windows",
        min_clips=2 * NEIGHBOURS,
        default=False,
        tasks=RECONSTRUCTION | GENERATION,
        sets=frozenset({"distribution"}),
        tolerance=2e-2,  # a count: one clip more or less at a ball's border
    )


class _Density:
    """Over rows of features."""

    def compute(self, rows: np.ndarray) -> float:
        return density(*_clip_means(rows))


class _Coverage:
    """Over rows of features."""

    def compute(self, rows: np.ndarray) -> float:
        return coverage(*_clip_means(rows))


class DensityI3d(_Density, Fvd):
    """Density in I3D's logits."""

    info = _of(Fvd.info, "density_i3d", "density", EMBEDDING)


class CoverageI3d(_Coverage, Fvd):
    """Coverage in I3D's logits."""

    info = _of(Fvd.info, "coverage_i3d", "coverage", EMBEDDING)


class DensityAisfx(_Density, FadAisfx):
    """Density in the sound-effects network's embedding."""

    info = _of(FadAisfx.info, "density_aisfx", "density", AISFX.protocol)


class CoverageAisfx(_Coverage, FadAisfx):
    """Coverage in the sound-effects network's embedding."""

    info = _of(FadAisfx.info, "coverage_aisfx", "coverage", AISFX.protocol)
