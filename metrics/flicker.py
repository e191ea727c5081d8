"""Flicker: how wrongly a reconstruction changes from frame to frame, whatever its single frames look like.

The mean absolute difference between the frame differences of reconstruction and reference: a constant error costs nothing, an error that
comes and goes costs twice, and a frozen picture costs all the motion that it leaves out.
"""

from torch import Tensor

from avbench.metric import MetricInfo, PerClipMetric
from avbench.metrics.psnr import check_same_shape, clip_videos
from avbench.types import ClipBatch, Tokens

LEVELS = 255


def flicker(reference: Tensor, recon: Tensor) -> Tensor:
    """Mean |(recon[t] - recon[t-1]) - (reference[t] - reference[t-1])| (B,), in [0, 2], of clips (B, T, 3, H, W) in [0, 1].

    0 for identical clips, and NaN for clips of one frame.
    """
    check_same_shape(reference, recon)
    return (recon.float() - reference.float()).diff(dim=1).abs().flatten(1).mean(dim=1)


class Flicker(PerClipMetric):
    """Error of the changes from frame to frame, in 8-bit levels."""

    info = MetricInfo(
        name="flicker",
        unit="levels",
        higher_is_better=False,
        needs=frozenset({"video"}),
        per_clip=True,
        default=False,
        protocol=f"mean |difference of frame differences|, RGB in [0,{LEVELS}], not rounded, frames at the split's fps; mean over clips",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return flicker(*clip_videos(reference, recon)) * LEVELS
