"""Multi-resolution STFT distance (Yamamoto et al. 2020, arXiv 1910.11480) as auraloss defines it."""

import torch
from torch import Tensor

from avbench.metric import MetricInfo, PerClipMetric
from avbench.types import ClipBatch, Tokens

MIN_SAMPLES = 1025  # reflection at the ends needs more than half of the largest FFT


def mr_stft(reference: Tensor, recon: Tensor) -> Tensor:
    """Spectral convergence + L1 of log magnitudes, mean over three resolutions, of each clip; 0 for identical clips, lower is better.

    auraloss.freq.MultiResolutionSTFTLoss with its defaults, recon as input and reference as target. Each clip is measured alone:
    spectral convergence is a ratio of norms over the whole input, so a batch would change every clip's value. Finite for silence
    too (auraloss raises magnitudes to 1e-4), though then as large as the recon is loud.

    Args:
        reference, recon: audio (B, C, N) in [-1, 1], N > 1024.

    Returns:
        (B,) float32 on the audio's device.
    """
    if reference.shape != recon.shape or reference.dim() != 3 or reference.shape[-1] < MIN_SAMPLES:
        shapes = f"reference {tuple(reference.shape)} and recon {tuple(recon.shape)}"
        raise ValueError(f"{shapes} must be audio of one shape (B, C, N) with N >= {MIN_SAMPLES}")
    from auraloss.freq import MultiResolutionSTFTLoss

    loss = MultiResolutionSTFTLoss().to(reference.device)
    with torch.no_grad():
        values = [loss(recon[clip : clip + 1].float(), reference[clip : clip + 1].float()) for clip in range(reference.shape[0])]
    return torch.stack(values) if values else reference.new_zeros(0)


class MrStft(PerClipMetric):
    """Distance of short-time spectra at three resolutions (auraloss).

    A digitally silent reference gives no value: its ratio would be the recon's loudness over auraloss's 1e-4.
    """

    info = MetricInfo(
        name="mr_stft",
        unit="",
        higher_is_better=False,
        needs=frozenset({"audio"}),
        per_clip=True,
        protocol=(
            "auraloss MultiResolutionSTFTLoss: FFT 1024/2048/512, hop 120/240/50, window 600/1200/240 (Hann), spectral convergence "
            "+ log magnitude, mean over resolutions, one clip at a time, at the split's sample rate, digitally silent reference left out"
        ),
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert reference.audio is not None
        assert recon.audio is not None
        silent = (reference.audio == 0).flatten(1).all(1)
        return mr_stft(reference.audio, recon.audio).masked_fill(silent, float("nan"))
