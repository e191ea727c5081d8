"""Fixed sine-cosine codes. `sincos_*` are LARP's; `orthogonal_grid` is the code of the linear start (linear_init.py)."""

import math

import torch
from torch import Tensor


def sincos_1d(length: int, width: int) -> Tensor:
    """(length, width): sines then cosines of position / 10000^(2i/width)."""
    omega = 1.0 / 10_000 ** (torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def sincos_3d(grid: tuple[int, int, int], width: int) -> Tensor:
    """(T*H*W, width): a full-width 2-D code of (h, w) plus a full-width 1-D code of t, summed, as LARP."""
    t, h, w = grid
    rows, columns = sincos_1d(h, width // 2), sincos_1d(w, width // 2)
    plane = torch.cat([columns[None].expand(h, w, -1), rows[:, None].expand(h, w, -1)], dim=-1)
    return (plane[None] + sincos_1d(t, width)[:, None, None]).reshape(t * h * w, width)


def orthogonal_grid(grid: tuple[int, int, int]) -> Tensor:
    """(T*H*W, sum of (n - 1)): per axis the discrete Fourier code, so that dot products only tell whether coordinates are equal.

    Each axis of n > 1 positions contributes 1 where two coordinates agree and -1/(n - 1) where not. Attention by this code is as
    sharp for neighbours as for distant patches, with n - 1 channels an axis (33 for 4 x 16 x 16, 27 for 1 x 5 x 24).
    """
    t, h, w = grid
    axes = [_fourier(n) for n in grid]
    parts = [axes[0][:, None, None].expand(t, h, w, -1), axes[1][None, :, None].expand(t, h, w, -1), axes[2].expand(t, h, w, -1)]
    return torch.cat(parts, dim=-1).reshape(t * h * w, -1)


def _fourier(n: int) -> Tensor:
    """(n, n - 1), rows of unit length, pairwise products -1/(n - 1)."""
    position = torch.arange(n, dtype=torch.float64)
    waves = []
    for k in range(1, n // 2 + 1):
        angle = 2 * math.pi * k * position / n
        waves.append(angle.cos())
        if 2 * k != n:
            waves.append(angle.sin())
    if not waves:
        return torch.zeros(n, 0)
    code = torch.stack(waves, dim=1)
    code = code / code.norm(dim=0)  # orthonormal columns, orthogonal to the constant
    return (code * math.sqrt(n / (n - 1))).float()
