"""LARP made faster on a CPU, once and for good: it can no longer be trained or saved. H heads, K head width, L positions, D width."""

import torch
from torch import Tensor, nn

from avbench.nn.packed import can_pack, pack, product
from avbench.nn.transformer import Attention

ROWS = 256  # of scores a thread and step: 256 x 2048 float32 are 2 MB, which a core's own cache holds


class BlockwiseAttention(nn.Module):
    """`attention` through oneDNN, a few rows of one head at a time. PyTorch's own goes through MKL (packed.py).

    CPU seconds for one block of LARP, one Zen 5 core: 0.157 of PyTorch's, 0.107 of this (0.175 with all 2048 rows at once).
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.qkv, self.proj = attention.qkv, attention.proj

    def forward(self, x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        qkv = self.qkv(x_BLD).view(B, L, 3, self.heads, D // self.heads)
        mixed_BLHK = torch.stack([torch.stack([_head(qkv[b, :, :, h]) for h in range(self.heads)], dim=1) for b in range(B)])
        return self.proj(mixed_BLHK.view(B, L, D))  # type: ignore[no-any-return]


def optimise(model: nn.Module) -> None:
    """Pack every linear layer and replace every attention, in place, where the model is float32 on a CPU; elsewhere nothing is done."""
    if not can_pack(model):
        return
    pack(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Attention):
                setattr(parent, name, BlockwiseAttention(child))


def _head(qkv_L3K: Tensor) -> Tensor:
    """Attention of one head, (L, K)."""
    queries, keys, values = qkv_L3K.unbind(1)
    queries, keys, values_KL = queries * queries.shape[-1] ** -0.5, keys.contiguous(), values.t().contiguous()
    parts = queries.split(ROWS * torch.get_num_threads())
    return torch.cat([product(product(part, keys).softmax(-1), values_KL) for part in parts])
