"""PSNR of video clips: 10 log10(1 / MSE), the MSE over a whole clip, then the mean over clips (as LARP's evaluation does).

Averaging the PSNR of single frames gives higher numbers (a frame that is all but exact counts as much as the others): `psnr_frames`.
"""

import torch
from torch import Tensor

from avbench.metric import MetricInfo, PerClipMetric
from avbench.types import ClipBatch, Tokens

CAP_DB = 100.0


def psnr(reference: Tensor, recon: Tensor, data_range: float = 1.0) -> Tensor:
    """PSNR (B,) in dB, float64, of clips (B, T, 3, H, W) with values in [0, data_range]; infinite for identical clips."""
    check_same_shape(reference, recon)
    error = (reference.float() - recon.float()).square().flatten(1).mean(dim=1, dtype=torch.float64)
    return 10 * torch.log10(data_range**2 / error)


def psnr_frames(reference: Tensor, recon: Tensor) -> Tensor:
    """PSNR of each frame, (B, T) in dB, float64, of clips (B, T, 3, H, W) in [0, 1]; infinite for identical frames."""
    check_same_shape(reference, recon)
    return psnr(reference.flatten(0, 1), recon.flatten(0, 1)).unflatten(0, reference.shape[:2])


def check_same_shape(reference: Tensor, recon: Tensor) -> None:
    """Raise ValueError unless both have one shape: broadcasting would give a number that means nothing."""
    if reference.shape != recon.shape:
        raise ValueError(f"reference {tuple(reference.shape)} and recon {tuple(recon.shape)} differ in shape")


def clip_videos(reference: ClipBatch, recon: ClipBatch) -> tuple[Tensor, Tensor]:
    """Both videos, the reconstruction clamped to [0, 1] as any player would show it."""
    assert reference.video is not None
    assert recon.video is not None
    return reference.video, recon.video.to(reference.video.device).clamp(0, 1)


class Psnr(PerClipMetric):
    """PSNR of each clip: MSE over the whole clip, then dB; at most 100 dB."""

    info = MetricInfo(
        name="psnr",
        unit="dB",
        higher_is_better=True,
        needs=frozenset({"video"}),
        per_clip=True,
        protocol=f"MSE over the whole clip, RGB in [0,1], then dB; a clip capped at {CAP_DB:g} dB; mean over clips",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return psnr(*clip_videos(reference, recon)).clamp(max=CAP_DB)


class PsnrFrames(PerClipMetric):
    """Mean of the PSNR of single frames, as many papers on video report it."""

    info = MetricInfo(
        name="psnr_frames",
        unit="dB",
        higher_is_better=True,
        needs=frozenset({"video"}),
        per_clip=True,
        default=False,
        protocol=f"MSE over a frame, RGB in [0,1], then dB; a frame capped at {CAP_DB:g} dB; mean over frames, then clips",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return psnr_frames(*clip_videos(reference, recon)).clamp(max=CAP_DB).mean(dim=1)
