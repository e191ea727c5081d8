"""A linear vector quantizer: PCA of patches, then k-means in the space of its first components. No network.

Three PCAs, because their numbers differ: `pca` is randomised (scikit-learn's), `fit_basis` exact, from the covariance, on any device;
`pca_of_pictures` is exact for samples of far fewer items than values, from their inner products. M patches of D values, P components,
V codebook entries.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from avbench.errors import AvbenchError
from avbench.nn.kmeans import kmeans, nearest

_COLUMNS = 4096


def pca(sample: Tensor, components: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mean (D,) and components (D, P), orthonormal columns, the strongest first, of a float32 sample (M, D) on the CPU.

    P is `components`, or M or D where that is less. Randomised: the seed belongs to the result.
    """
    from sklearn.decomposition import PCA

    fitted = PCA(min(components, *sample.shape), svd_solver="randomized", random_state=seed).fit(sample.numpy())
    return torch.from_numpy(fitted.mean_).float(), torch.from_numpy(fitted.components_).float().T.contiguous()


def pca_of_pictures(pictures: Tensor, components: int, scale: float = 1 / 255) -> tuple[Tensor, Tensor]:
    """Mean (D,) and components (D, P), float32, of pictures (M, D) of any dtype, times `scale`, with P < M < D.

    Memory: M x M and D x P numbers and a few thousand columns of the sample, never all of it as floats.
    """
    mean = torch.cat([part.float().mean(0) * scale for part in pictures.split(_COLUMNS, dim=1)])

    def centred() -> Iterator[Tensor]:
        for part, middle in zip(pictures.split(_COLUMNS, dim=1), mean.split(_COLUMNS), strict=True):
            yield part.float() * scale - middle

    gram = torch.zeros(len(pictures), len(pictures), dtype=torch.float64)
    for values in centred():
        gram += values @ values.T
    strengths, vectors = torch.linalg.eigh(gram)
    strongest = (vectors / strengths.clamp_min(1e-12).sqrt()).flip(1)[:, :components].float()
    return mean, torch.cat([values.T @ strongest for values in centred()])


@dataclass(frozen=True, kw_only=True)
class Basis:
    """components: (P, D) orthonormal rows, strongest first. unit: patch values a unit of coordinate (see `fit_basis`)."""

    mean: Tensor
    components: Tensor
    std: Tensor  # (P,) of the coordinates, in patch values
    unit: float

    def coordinates(self, patches: Tensor) -> Tensor:
        """(M, P) of patches (M, D), in units of `unit`."""
        return (patches.float() - self.mean) @ self.components.t() / self.unit

    def patches(self, coordinates: Tensor) -> Tensor:
        """The inverse, from the first coordinates."""
        return coordinates @ self.components[: coordinates.shape[-1]] * self.unit + self.mean


@torch.no_grad()
def fit_basis(patches: Tensor, components: int, unit_over: int) -> Basis:
    """PCA by the covariance's eigenvectors (float64). `unit` makes the first `unit_over` coordinates of unit r.m.s. on average."""
    if len(patches) < unit_over:
        raise AvbenchError(f"{len(patches)} patches are too few to fit {unit_over} principal components; give more training clips")
    mean = patches.mean(0, dtype=torch.float32)
    centred = patches.float() - mean
    covariance = (centred.t() @ centred).double() / len(centred)
    values, vectors = torch.linalg.eigh(covariance)
    keep = min(components, len(values))
    std = values.flip(0)[:keep].clamp_min(0).sqrt().float()
    unit = float(std[:unit_over].square().mean().sqrt().clamp_min(1e-6))
    return Basis(mean=mean, components=vectors.flip(1)[:, :keep].t().float().contiguous(), std=std, unit=unit)


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
