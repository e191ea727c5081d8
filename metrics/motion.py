"""PSNR and LPIPS of what moves: a picture's background, made well, earns nothing here.

On clips with a still background (arcade: 92 % of the pixels) PSNR and LPIPS mostly say how well the background is made, and one picture
shown throughout does that. A pixel (of one frame, all its channels) moves if a channel differs by more than 0.1 from the mean frame of its
own clip. The mask comes from the reference alone, so no reconstruction can shrink it. Clips in which nothing moves have no value.
"""

import torch
from torch import Tensor

from avbench.metric import MetricInfo, MetricOptions, PerClipMetric
from avbench.metrics.lpips import load, lpips_maps, trunk_name
from avbench.metrics.psnr import CAP_DB, check_same_shape, clip_videos
from avbench.nn.pretrained.lpips import TRUNKS
from avbench.types import ClipBatch, Tokens

THRESHOLD = 0.1
MASK_PROTOCOL = f"a pixel moves if an RGB channel in [0,1] is over {THRESHOLD:g} from the reference clip's mean frame"


def moving_pixels(reference: Tensor) -> Tensor:
    """bool (B, T, 1, H, W): which pixels of clips (B, T, 3, H, W) in [0, 1] differ from their clip's mean frame."""
    video = reference.float()
    return ((video - video.mean(dim=1, keepdim=True)).abs() > THRESHOLD).any(dim=2, keepdim=True)


def psnr_motion(reference: Tensor, recon: Tensor) -> Tensor:
    """PSNR (B,) in dB, float64, over the moving pixels of clips (B, T, 3, H, W) in [0, 1]: their MSE over the whole clip, then dB.

    Infinite where they are exact, NaN where none moves.
    """
    check_same_shape(reference, recon)
    error = (reference.float() - recon.float()).square().mean(dim=2, keepdim=True)
    return -10 * torch.log10(_masked_mean(error, moving_pixels(reference)))


def lpips_motion(reference: Tensor, recon: Tensor) -> Tensor:
    """LPIPS with AlexNet (B,), averaged over the moving pixels of clips (B, T, 3, H, W) in [0, 1] instead of over all.

    The whole frames are compared and the map of distances is read where something moves. Pasting the reference's still pixels around the
    moving ones first would give a blurred shape the reference's outline for nothing: the mask often is that outline.
    """
    return _masked_mean(lpips_maps(reference, recon, "alex"), moving_pixels(reference)).float()


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) float64: mean of values (B, T, 1, H, W) over each clip's mask; 0 / 0 = NaN where that is empty."""
    return (values * mask).flatten(1).sum(dim=1, dtype=torch.float64) / mask.flatten(1).sum(dim=1)


class PsnrMotion(PerClipMetric):
    """PSNR of the pixels that move in the reference."""

    info = MetricInfo(
        name="psnr_motion",
        unit="dB",
        higher_is_better=True,
        needs=frozenset({"video"}),
        per_clip=True,
        protocol=f"{MASK_PROTOCOL}; MSE over a clip's moving pixels, then dB; a clip capped at {CAP_DB:g} dB; mean over clips that move",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return psnr_motion(*clip_videos(reference, recon)).clamp(max=CAP_DB)


class LpipsMotion(PerClipMetric):
    """LPIPS (AlexNet) where the reference moves."""

    info = MetricInfo(
        name="lpips_motion",
        unit="",
        higher_is_better=False,
        tolerance=1e-4,
        needs=frozenset({"video"}),
        per_clip=True,
        sets=frozenset({"perceptual"}),
        weights=(TRUNKS["alex"][0],),
        protocol=f"{MASK_PROTOCOL}; LPIPS v0.1 alex (trunk {trunk_name('alex')}) of whole frames, no resize; layers' maps bilinear to the "
        "frame's size, summed; mean over a clip's moving pixels, then over clips that move",
    )

    def __init__(self, options: MetricOptions) -> None:
        self.device = options.device
        load("alex", options.device, spatial=True)

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        reference_video, recon_video = clip_videos(reference, recon)
        return lpips_motion(reference_video.to(self.device), recon_video.to(self.device)).cpu()
