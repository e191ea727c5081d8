"""SSIM of video clips: Wang, Bovik, Sheikh & Simoncelli (2004), "Image quality assessment: from error visibility to structural similarity".

11x11 Gaussian window (sigma 1.5), K1 0.01, K2 0.03, population covariance, valid region only; per channel and frame, mean over all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from avbench.metric import MetricInfo, PerClipMetric
from avbench.metrics.psnr import check_same_shape, clip_videos
from avbench.types import ClipBatch, Tokens

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def ssim(reference: Tensor, recon: Tensor, data_range: float = 1.0) -> Tensor:
    """SSIM (B,) of clips (B, T, 3, H, W) with values in [0, data_range]; at most 1. Frames must be 11 pixels or more a side."""
    check_same_shape(reference, recon)
    if min(reference.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM's window is {WINDOW} pixels wide; the frames are {tuple(reference.shape[-2:])}")
    clips = [ssim_maps(a.flatten(0, 1), b.flatten(0, 1), data_range)[0].mean() for a, b in zip(reference, recon, strict=True)]
    return torch.stack(clips)


def ssim_maps(a: Tensor, b: Tensor, data_range: float = 1.0) -> tuple[Tensor, Tensor]:
    """SSIM, and its contrast and structure alone: maps (P, H-10, W-10) of planes (P, H, W), at least 11 pixels a side."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    # Centred first: variances as E[x^2] - E[x]^2 lose half of float32's digits where a plane is bright and flat.
    offset_x, offset_y = (planes.float().mean(dim=(-2, -1), keepdim=True) for planes in (a, b))
    x, y = a.float() - offset_x, b.float() - offset_y
    mean_x, mean_y, xx_yy, xy = _blur(torch.stack([x, y, x * x + y * y, x * y]))
    cross = mean_x * mean_y
    squares = mean_x.square() + mean_y.square()
    structure = (2 * (xy - cross) + c2) / (xx_yy - squares + c2)
    true_x, true_y = mean_x + offset_x, mean_y + offset_y
    return structure * (2 * true_x * true_y + c1) / (true_x.square() + true_y.square() + c1), structure


def _blur(planes: Tensor) -> Tensor:
    """Gaussian window over (..., H, W), valid region, as two products with banded matrices: on a CPU twice as fast as convolutions."""
    rows, columns = (_band(size, planes.device) for size in planes.shape[-2:])
    return rows @ planes @ columns.T


def _band(size: int, device: torch.device) -> Tensor:
    """(size-10, size): row i holds the window's weights at columns i to i+10."""
    taps = torch.exp(-0.5 * ((torch.arange(WINDOW, device=device) - WINDOW // 2) / SIGMA) ** 2)
    shifted = F.pad(taps / taps.sum(), (0, size - WINDOW)).repeat(size - WINDOW + 1, 1)
    column = torch.arange(size, device=device) - torch.arange(size - WINDOW + 1, device=device)[:, None]
    return shifted.gather(1, column % size)


class Ssim(PerClipMetric):
    """Structural similarity at one scale, mean over frames."""

    info = MetricInfo(
        name="ssim",
        unit="",
        higher_is_better=True,
        tolerance=1e-4,
        needs=frozenset({"video"}),
        per_clip=True,
        sets=frozenset({"perceptual"}),
        protocol="11x11 Gaussian sigma 1.5, K1 0.01, K2 0.03, data range 1, population covariance, valid; mean over RGB, frames, clips",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return ssim(*clip_videos(reference, recon))
