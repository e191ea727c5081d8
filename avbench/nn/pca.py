"""Principal components of a sample of patches. M patches of D values, P components."""

import torch
from torch import Tensor


def pca(sample: Tensor, components: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mean (D,) and components (D, P), orthonormal columns, the strongest first, of a float32 sample (M, D) on the CPU.

    P is `components`, or M or D where that is less. Randomised: the seed belongs to the result.
    """
    from sklearn.decomposition import PCA

    fitted = PCA(min(components, *sample.shape), svd_solver="randomized", random_state=seed).fit(sample.numpy())
    return torch.from_numpy(fitted.mean_).float(), torch.from_numpy(fitted.components_).float().T.contiguous()
