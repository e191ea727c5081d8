"""REPA's projector (Yu et al. 2025, arXiv 2410.06940): patch-wise tokens -> a frozen teacher's feature space."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nn.transformer import Linear


class Projector(nn.Module):
    """Linear, SiLU, Linear, SiLU, Linear: 7.3 M from 768 through 2048 to 768."""

    def __init__(self, width: int, hidden: int, teacher_dim: int) -> None:
        super().__init__()
        sizes = (width, hidden, hidden, teacher_dim)
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.silu(layer(x))
        return self.layers[-1](x)  # type: ignore[no-any-return]


def alignment_loss(projected_BLF: Tensor, teacher_BLF: Tensor) -> Tensor:
    """Mean over tokens of minus the cosine, float32: -1 where every token points as the teacher's does."""
    return -F.cosine_similarity(projected_BLF.float(), teacher_BLF.float(), dim=-1).mean()
