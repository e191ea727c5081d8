"""Linear layers for float32 inference on a CPU: weights reordered once for oneDNN, as PyTorch's own compiler does when it freezes a model.

F.linear hands float32 to MKL, which falls back to its slow kernels on AMD processors. LARP's largest layer (2048 x 768 to 3072) on one
Zen 5 core: 0.28 s with MKL, 0.12 s with oneDNN (both under load; benchmarks/larp_speed.py measures the whole model). The sums are
rounded in another order, no coarser.
"""

import torch
from torch import Tensor, nn

from avbench.tokenizers.avtok.blocks import Linear

ROWS = 2048  # a hint for the reordering: patches and queries of one clip


class PackedLinear(nn.Module):
    """An inference-only stand-in for `linear`, whose weight it keeps in oneDNN's own order. Input and output float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]


def pack(model: nn.Module) -> None:
    """Replace every `Linear` of a float32 model on the CPU, in place. Elsewhere, and where this PyTorch has no oneDNN, nothing is done."""
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Linear):
                setattr(parent, name, PackedLinear(child))
