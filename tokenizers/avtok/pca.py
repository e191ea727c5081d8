"""Principal components of patches. N patches, P values a patch, K components."""

from dataclasses import dataclass

import torch
from torch import Tensor

from avbench.errors import AvbenchError


@dataclass(frozen=True, kw_only=True)
class Basis:
    """components: (K, P) orthonormal rows, strongest first. unit: patch values a unit of coordinate (see `fit_basis`)."""

    mean: Tensor
    components: Tensor
    std: Tensor  # (K,) of the coordinates, in patch values
    unit: float

    def coordinates(self, patches_NP: Tensor) -> Tensor:
        """(N, K), in units of `unit`."""
        return (patches_NP.float() - self.mean) @ self.components.t() / self.unit

    def patches(self, coordinates_NK: Tensor) -> Tensor:
        """The inverse, from the first K coordinates."""
        return coordinates_NK @ self.components[: coordinates_NK.shape[-1]] * self.unit + self.mean


@torch.no_grad()
def fit_basis(patches_NP: Tensor, components: int, unit_over: int) -> Basis:
    """PCA by the covariance's eigenvectors (float64). `unit` makes the first `unit_over` coordinates of unit r.m.s. on average."""
    if len(patches_NP) < unit_over:
        raise AvbenchError(f"{len(patches_NP)} patches are too few to fit {unit_over} principal components; give more training clips")
    mean = patches_NP.mean(0, dtype=torch.float32)
    centred = patches_NP.float() - mean
    covariance = (centred.t() @ centred).double() / len(centred)
    values, vectors = torch.linalg.eigh(covariance)
    keep = min(components, len(values))
    std = values.flip(0)[:keep].clamp_min(0).sqrt().float()
    unit = float(std[:unit_over].square().mean().sqrt().clamp_min(1e-6))
    return Basis(mean=mean, components=vectors.flip(1)[:, :keep].t().float().contiguous(), std=std, unit=unit)
