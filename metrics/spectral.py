"""Mel and STFT distance as codec papers report them: those of DAC's evaluation (Kumar et al. 2023, arXiv 2306.06546, section 4.4).

Both compare magnitudes at two resolutions: the mean absolute difference of log10 of their squares, plus that of the magnitudes themselves.
"""

import warnings
from functools import lru_cache

import librosa
import torch
from torch import Tensor

from avbench.metric import MetricInfo, PerClipMetric
from avbench.types import ClipBatch, Tokens

WINDOWS = (2048, 512)  # samples at any rate; the hop is a quarter
MEL_BANDS = (150, 80)  # of either window
MIN_MAGNITUDE = 1e-5
MIN_SAMPLES = WINDOWS[0] // 2 + 1  # reflection at the ends needs more than half of a window


def mel_distance(reference: Tensor, recon: Tensor, sample_rate: int) -> Tensor:
    """Distance of mel spectrograms, 0 for identical clips, lower is better: DAC's MelSpectrogramLoss with its defaults.

    Args:
        reference, recon: audio (B, C, N) in [-1, 1], N > 1024, at `sample_rate` Hz.

    Returns:
        (B,) float32 on the audio's device; channels are averaged.
    """
    distances = []
    for window, bands in zip(WINDOWS, MEL_BANDS, strict=True):
        basis = _mel_basis(sample_rate, window, bands).to(reference.device)
        distances.append(_distance(*(basis @ x for x in _magnitudes(reference, recon, window))))
    return torch.stack(distances).sum(0)


def stft_distance(reference: Tensor, recon: Tensor) -> Tensor:
    """Distance of spectrograms: DAC's MultiScaleSTFTLoss with its defaults. Shapes and errors as `mel_distance`."""
    return torch.stack([_distance(*_magnitudes(reference, recon, window)) for window in WINDOWS]).sum(0)


def _magnitudes(reference: Tensor, recon: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Two (B, C, window / 2 + 1, F). Raises ValueError for audio of two shapes, or too short."""
    if reference.shape != recon.shape or reference.dim() != 3 or reference.shape[-1] < MIN_SAMPLES:
        shapes = f"reference {tuple(reference.shape)} and recon {tuple(recon.shape)}"
        raise ValueError(f"{shapes} must be audio of one shape (B, C, N) with N >= {MIN_SAMPLES}")
    hann = torch.hann_window(window, device=reference.device)
    spectra = (torch.stft(x.float().flatten(0, 1), window, window // 4, window=hann, return_complex=True) for x in (reference, recon))
    first, second = (spectrum.abs().unflatten(0, reference.shape[:2]) for spectrum in spectra)
    return first, second


def _distance(reference: Tensor, recon: Tensor) -> Tensor:
    """(B,) of magnitudes (B, ...)."""
    logs = (x.clamp_min(MIN_MAGNITUDE).square().log10() for x in (reference, recon))
    differences = [(a - b).abs().flatten(1).mean(1) for a, b in (tuple(logs), (reference, recon))]
    return differences[0] + differences[1]


@lru_cache(maxsize=8)
def _mel_basis(sample_rate: int, window: int, bands: int) -> Tensor:
    """Slaney's filter bank (bands, window / 2 + 1) up to half the rate. Its lowest bands may hold no bin: they compare as equal."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Empty filters")
        return torch.from_numpy(librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=bands))


_SAME = (
    f"log10 of squared magnitudes of at least {MIN_MAGNITUDE:g}, and magnitudes, each mean absolute difference, summed over both windows; "
    "at the split's sample rate, channels averaged, one clip at a time, digitally silent reference left out"
)


class MelDistance(PerClipMetric):
    """Distance of log-mel spectrograms at two resolutions, as DAC has it.

    A digitally silent reference gives no value: its distance would be the recon's loudness over the least magnitude.
    """

    info = MetricInfo(
        name="mel_distance",
        unit="",
        higher_is_better=False,
        needs=frozenset({"audio"}),
        per_clip=True,
        default=False,
        sets=frozenset({"perceptual", "speech"}),
        protocol=f"DAC's mel distance: Hann windows 2048/512, hop a quarter, 150/80 Slaney bands from 0 to half the rate; {_SAME}",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert reference.audio is not None
        assert recon.audio is not None
        silent = (reference.audio == 0).flatten(1).all(1)
        return mel_distance(reference.audio, recon.audio, reference.sample_rate).masked_fill(silent, float("nan"))


class StftDistance(PerClipMetric):
    """Distance of log spectrograms at two resolutions, as DAC has it.

    A digitally silent reference gives no value, as of `MelDistance`.
    """

    info = MetricInfo(
        name="stft_distance",
        unit="",
        higher_is_better=False,
        needs=frozenset({"audio"}),
        per_clip=True,
        default=False,
        protocol=f"DAC's STFT distance: Hann windows 2048/512, hop a quarter; {_SAME}",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert reference.audio is not None
        assert recon.audio is not None
        silent = (reference.audio == 0).flatten(1).all(1)
        return stft_distance(reference.audio, recon.audio).masked_fill(silent, float("nan"))
