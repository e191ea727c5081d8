"""Weights that two implementations can agree on without a file: each tensor follows from its key and shape alone."""

import zlib

import torch
from torch import Tensor


def keyed_tensor(key: str, shape: tuple[int, ...] | torch.Size) -> Tensor:
    """Norm weights about 1, matrices and kernels of unit gain, everything else about 0."""
    drawn = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if "norm" in key and key.endswith("weight"):
        return 1 + 0.1 * drawn
    if key.endswith(("weight", "weight_v")) and drawn.ndim > 1:
        return drawn / drawn[0].numel() ** 0.5
    if key.endswith("weight_g"):
        return 1 + 0.1 * drawn
    return 0.1 * drawn


def keyed_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Key -> shape to key -> tensor."""
    return {key: keyed_tensor(key, shape) for key, shape in shapes.items()}
