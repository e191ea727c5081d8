"""A linear vector quantizer: PCA of patches, then k-means in the space of its first components. No network.

Shapes: M patches of D values, P components, V codebook entries.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.nn.kmeans import kmeans, nearest
from avbench.nn.pca import pca

NUM_COMPONENTS = 64
PCA_PATCHES = 12_000  # the first 64 of 3072 components are settled long before
KMEANS_PATCHES = 120_000
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

    def unproject(self, points: Tensor) -> Tensor:
        """float32 (M, P) -> (M, D): what the components can say of a patch."""
        return points @ self.components.T + self.mean

    def encode(self, patches: Tensor) -> Tensor:
        """float32 (M, D) -> int64 (M,), the nearest entries."""
        return nearest(self.project(patches), self.codebook)

    def decode(self, codes: Tensor) -> Tensor:
        """int64 (M,) -> float32 (M, D)."""
        return self.unproject(self.codebook[codes])

    def to(self, device: torch.device | str) -> "LinearVq":
        """The same on another device."""
        return LinearVq(mean=self.mean.to(device), components=self.components.to(device), codebook=self.codebook.to(device))


def fit(patches: Tensor, scale: float, vocab: int, seed: int = 0) -> LinearVq:
    """Fit to patches (M, D) of any dtype, times `scale`. Raises AvbenchError where M is below `vocab`."""
    if len(patches) < vocab:
        raise AvbenchError(f"{len(patches)} training patches cannot fill a codebook of {vocab}; more clips, or fewer bits")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(patches), generator=generator)[:KMEANS_PATCHES]
    mean, components = pca(patches[order[:PCA_PATCHES]].float() * scale, NUM_COMPONENTS, seed)
    points = torch.cat([(patches[chunk].float() * scale - mean) @ components for chunk in order.split(_CHUNK)])
    return LinearVq(mean=mean, components=components, codebook=kmeans(points, vocab, seed=seed))
