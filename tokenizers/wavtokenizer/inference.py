"""A loaded model made faster, once and for good: it can no longer be trained or saved."""

from torch import nn

from avbench.nn.packed import Packed, can_pack, pack
from avbench.nn.residual_vq import Codebook
from avbench.tokenizers.wavtokenizer.seanet import Conv


def optimise(model: nn.Module) -> None:
    """Weight norms are computed once; on a CPU, matrices are reordered for oneDNN (avbench/nn/packed.py says why)."""
    packs = can_pack(model)
    for module in list(model.modules()):
        if isinstance(module, Conv):
            module.fold()
            if packs and module.is_product:
                module.packed = Packed(module.weight().flatten(1), module.bias)
        elif packs and isinstance(module, Codebook):
            module.packed = Packed(module.embed, -module.half_norms())
    pack(model)
