"""Pixels as models take them."""

import torch
from torch import Tensor


def unit_range(x: Tensor) -> Tensor:
    """float32 in [0, 1] of uint8, or of floats in [0, 1]."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()
