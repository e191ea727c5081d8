"""MS-SSIM: Wang, Simoncelli & Bovik (2003), "Multiscale structural similarity for image quality assessment".

SSIM's contrast and structure at each of five scales, its luminance at the last alone, to the powers that the authors fitted; a scale is
half the last one, each 2x2 block averaged. Negative means count as 0, means are of the valid region, and each colour channel is a picture
of its own, as in TensorFlow and pytorch-msssim (torchmetrics pads the last scale and averages colours first).

The fifth scale of a picture below 161 pixels a side is smaller than SSIM's window of 11: at 128x128 it has 8x8 pixels, and torchmetrics,
TensorFlow and pytorch-msssim all refuse it. Here such a picture has as many scales as hold a window (128x128: four, down to 16x16), with
their powers divided by their sum, so that a picture of one structural error at every scale keeps its value.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from avbench.metric import MetricInfo, PerClipMetric
from avbench.metrics.psnr import check_same_shape, clip_videos
from avbench.metrics.ssim import WINDOW, ssim_maps
from avbench.types import ClipBatch, Tokens

POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, the whole picture first: Wang et al., section 3.2


def ms_ssim(reference: Tensor, recon: Tensor) -> Tensor:
    """MS-SSIM (B,) in [0, 1], 1 for identical clips, of clips (B, T, 3, H, W) in [0, 1], mean over channels and frames.

    Raises ValueError for frames of less than 11 pixels a side.
    """
    check_same_shape(reference, recon)
    powers = powers_of(min(reference.shape[-2:]))
    return torch.stack([_planes(a.flatten(0, 1), b.flatten(0, 1), powers).mean() for a, b in zip(reference, recon, strict=True)])


def powers_of(side: int) -> tuple[float, ...]:
    """The powers of a picture's scales, where the shorter side has so many pixels. Raises ValueError below 11."""
    if side < WINDOW:
        raise ValueError(f"MS-SSIM's window is {WINDOW} pixels wide; the frames' shorter side has {side}")
    sides = [side]
    while len(sides) < len(POWERS) and (half := (sides[-1] + 1) // 2) >= WINDOW:
        sides.append(half)
    if len(sides) == len(POWERS):
        return POWERS
    used = POWERS[: len(sides)]
    return tuple(power / sum(used) for power in used)


def _planes(a: Tensor, b: Tensor, powers: tuple[float, ...]) -> Tensor:
    """MS-SSIM (P,) of planes (P, H, W)."""
    a, b = a.float(), b.float()
    product = torch.ones(len(a), device=a.device)
    for scale, power in enumerate(powers, start=1):
        whole, structure = ssim_maps(a, b)
        seen = whole if scale == len(powers) else structure
        product = product * seen.mean(dim=(1, 2)).clamp(min=0) ** power
        a, b = (F.avg_pool2d(planes[:, None], 2, ceil_mode=True)[:, 0] for planes in (a, b))  # an odd last row stands for two
    return product


class MsSsim(PerClipMetric):
    """Structural similarity over five scales; over four at 128x128."""

    info = MetricInfo(
        name="ms_ssim",
        unit="",
        higher_is_better=True,
        tolerance=1e-4,
        needs=frozenset({"video"}),
        per_clip=True,
        default=False,
        sets=frozenset({"perceptual"}),
        protocol="Wang 2003: SSIM's 11x11 Gaussian sigma 1.5, K1 0.01, K2 0.03, data range 1, valid; 2x2 means; powers 0.0448, 0.2856, "
        "0.3001, 0.2363, 0.1333; below 161 pixels a side as many scales as hold a window (128: 4), powers over their sum; negative "
        "means as 0; mean over RGB, frames, clips",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return ms_ssim(*clip_videos(reference, recon))
