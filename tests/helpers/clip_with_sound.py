"""A clip of 4.096 s that two implementations can be given: moving colours, and a chord that swells under noise."""

import torch
from torch import Tensor


def moving_colours(height: int, width: int) -> Tensor:
    """(1, 16, 3, height, width) in [0, 1]."""
    t, c, y, x = torch.meshgrid(torch.arange(16), torch.arange(3), torch.arange(height), torch.arange(width), indexing="ij")
    noise = torch.rand(16, 3, height, width, generator=torch.Generator().manual_seed(0))
    return (0.4 + 0.3 * torch.sin(0.11 * x + 0.07 * y * (1 + c) + 0.5 * t) + 0.3 * noise)[None].clamp(0, 1)


def chord(sample_rate: int, seconds: float = 4.096) -> Tensor:
    """(1, 1, N) in [-1, 1]."""
    time = torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    tones = torch.stack([torch.sin(6.283185307179586 * pitch * time) for pitch in (220.0, 554.4, 3135.9)]).sum(0)
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    swell = torch.sin(6.283185307179586 * 0.7 * time) ** 2
    return (0.25 * swell * tones + 0.02 * noise).float()[None, None]
