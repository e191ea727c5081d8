"""Matrix products for float32 inference on a CPU: weights reordered once for oneDNN, as torch.compile does when it freezes a model.

F.linear hands float32 to MKL, which falls back to its slow kernels on AMD processors. LARP's largest layer (2048 x 768 to 3072) on one
Zen 5 core: 0.28 s with MKL, 0.12 s with oneDNN (both under load; benchmarks/larp_speed.py measures the whole model). The sums are
rounded in another order, no coarser.
"""

import torch
from torch import Tensor, nn

ROWS = 2048  # patches and queries of one clip of LARP


class Packed(nn.Module):
    """x @ weight.T + bias for inference only; x (..., inputs) float32, weight (outputs, inputs). rows: how many of x to expect, a hint."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, rows: int = ROWS) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), rows)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")  # type: ignore[no-any-return]


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T through oneDNN, with a weight that is used once; both float32 on a CPU."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # type: ignore[no-any-return]


def can_pack(model: nn.Module) -> bool:
    """Whether `model` is a float32 model on the CPU of a PyTorch with oneDNN."""
    parameter = next(model.parameters())
    return parameter.device.type == "cpu" and parameter.dtype == torch.float32 and can_pack_as(parameter.dtype)


def can_pack_as(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and this CPU has what it wants for `dtype`: for bfloat16, AVX2 is not enough."""
    return torch.backends.mkldnn.is_available() and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(model: nn.Module) -> None:
    """Replace every linear layer, in place, where `can_pack`; elsewhere nothing is done."""
    if not can_pack(model):
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, Packed(child.weight, child.bias))
