"""A linear vector quantizer: PCA of patches, then k-means in the space of its first components. No network.

Shapes: M patches of D values, P components, V codebook entries.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from avbench.errors import AvbenchError

NUM_COMPONENTS = 64
PCA_PATCHES = 12_000  # the first 64 of 3072 components are settled long before
SEED_PATCHES = 24_000  # k-means++ chooses its seeds among these
KMEANS_PATCHES = 120_000
# k-means++ and 5 Lloyd rounds: 24.58 dB on held-out arcade clips (256x12); 10 rounds 24.58, random seeds and 15 rounds 23.93,
# scikit-learn's MiniBatchKMeans 22.67 in five times the time.
LLOYD_ROUNDS = 5
_CHUNK = 4096


@dataclass(frozen=True, kw_only=True)
class LinearVq:
    """patch -> (patch - mean) @ components -> nearest entry of the codebook."""

    mean: Tensor  # (D,)
    components: Tensor  # (D, P), orthonormal columns
    codebook: Tensor  # (V, P)

    @property
    def parameters(self) -> int:
        """Fitted numbers."""
        return self.mean.numel() + self.components.numel() + self.codebook.numel()

    def project(self, patches: Tensor) -> Tensor:
        """float32 (M, D) -> (M, P)."""
        return (patches - self.mean) @ self.components

    def encode(self, patches: Tensor) -> Tensor:
        """float32 (M, D) -> int64 (M,), the nearest entries."""
        return nearest(self.project(patches), self.codebook)

    def decode(self, codes: Tensor) -> Tensor:
        """int64 (M,) -> float32 (M, D)."""
        return self.codebook[codes] @ self.components.T + self.mean

    def to(self, device: torch.device | str) -> "LinearVq":
        """The same on another device."""
        return LinearVq(mean=self.mean.to(device), components=self.components.to(device), codebook=self.codebook.to(device))


def fit(patches: Tensor, scale: float, vocab: int, seed: int) -> LinearVq:
    """Fit to patches (M, D) of any dtype, times `scale`. Raises AvbenchError where M is below `vocab`."""
    if len(patches) < vocab:
        raise AvbenchError(f"{len(patches)} training patches cannot fill a codebook of {vocab}; more clips, or fewer bits")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(patches), generator=generator)[:KMEANS_PATCHES]
    mean, components = _pca(patches[order[:PCA_PATCHES]].float() * scale, seed)
    points = torch.cat([(patches[chunk].float() * scale - mean) @ components for chunk in order.split(_CHUNK)])
    codebook = _lloyd(points, _seeds(points[: max(SEED_PATCHES, vocab)], vocab, seed))
    return LinearVq(mean=mean, components=components, codebook=codebook)


def nearest(points: Tensor, codebook: Tensor) -> Tensor:
    """int64 (M,): for each of the points (M, P) the nearest of the entries (V, P)."""
    norms = codebook.square().sum(1)
    return torch.cat([(norms - 2 * chunk @ codebook.T).argmin(1) for chunk in points.split(_CHUNK)])


def _pca(sample: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and components (D, P) of a sample (M, D)."""
    from sklearn.decomposition import PCA

    pca = PCA(min(NUM_COMPONENTS, *sample.shape), svd_solver="randomized", random_state=seed).fit(sample.numpy())
    return torch.from_numpy(pca.mean_).float(), torch.from_numpy(pca.components_).float().T.contiguous()


def _seeds(points: Tensor, vocab: int, seed: int) -> Tensor:
    """k-means++ seeds (V, P) among the points."""
    from sklearn.cluster import kmeans_plusplus

    centres, _ = kmeans_plusplus(points.numpy(), vocab, random_state=seed, n_local_trials=1)
    return torch.from_numpy(centres).float()


def _lloyd(points: Tensor, codebook: Tensor) -> Tensor:
    """Lloyd's rounds; an entry that no point chooses stays where it is."""
    for _ in range(LLOYD_ROUNDS):
        codes = nearest(points, codebook)
        counts = torch.bincount(codes, minlength=len(codebook))[:, None]
        sums = torch.zeros_like(codebook).index_add_(0, codes, points)
        codebook = torch.where(counts > 0, sums / counts.clamp_min(1), codebook)
    return codebook
