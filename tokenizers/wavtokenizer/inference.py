"""A loaded model made faster, once and for good: it can no longer be trained or saved."""

import torch
from torch import Tensor, nn

from avbench.tokenizers.larp.packed import PackedLinear
from avbench.tokenizers.wavtokenizer.quantizer import Codebook
from avbench.tokenizers.wavtokenizer.seanet import Conv


def optimise(model: nn.Module) -> None:
    """Weight norms are computed once; on a CPU, matrices are reordered for oneDNN (larp/packed.py says why)."""
    packs = _can_pack(model)
    for module in list(model.modules()):
        if isinstance(module, Conv):
            module.fold()
            if packs and module.is_product:
                module.packed = _packed(module.weight().flatten(1), module.bias)
        elif packs and isinstance(module, Codebook):
            module.packed = _packed(module.embed, -module.half_norms())
        elif packs:
            for name, child in module.named_children():
                if isinstance(child, nn.Linear):
                    setattr(module, name, PackedLinear(child))


def _can_pack(model: nn.Module) -> bool:
    parameter = next(model.parameters())
    return parameter.device.type == "cpu" and parameter.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _packed(weight: Tensor, bias: Tensor) -> PackedLinear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight, linear.bias = (nn.Parameter(x.detach(), requires_grad=False) for x in (weight, bias))
    return PackedLinear(linear)
