"""SI-SDR: scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, arXiv 1811.02508, eq. 4-5).

The reconstruction is split into its projection onto the reference and the rest; the value is 10 log10 of their energies' ratio.
The channels of a clip are one signal (one scale for all). Clips are limited to [FLOOR_DB, CEILING_DB].
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.metric import MetricInfo, PerClipMetric
from avbench.types import ClipBatch, Tokens

FLOOR_DB, CEILING_DB = -100.0, 100.0
MAX_SHIFT_S = 0.05
_LIMITS = "float64, clips limited to [-100, 100] dB, silent reconstruction -100 dB, digitally silent reference left out"
# Energy below this share of the signal's own is rounding: a constant whose mean was removed, a difference of cumulative sums.
_ROUNDING = 1e-26
# Shifts whose squared correlations differ by less are equal (a periodic sound): 10 log10(1e12) is beyond the ceiling.
_TIE = 1e-12


def si_sdr(reference: Tensor, recon: Tensor, zero_mean: bool = False) -> Tensor:
    """SI-SDR of each clip in dB, higher is better, within [-100, 100].

    Args:
        reference, recon: audio (B, C, N) in [-1, 1], finite.
        zero_mean: first remove each channel's mean, from both.

    Returns:
        (B,) float64. Identical clips give 100, silent ones included; else -100 where recon or reference is silent.

    Raises:
        ValueError: shapes that differ, or a sample that is not finite.
    """
    reference, recon = _float64(reference, recon)
    if zero_mean:
        reference, recon = _without_mean(reference), _without_mean(recon)
    return _decibels(reference.flatten(1), recon.flatten(1))


def si_sdr_aligned(reference: Tensor, recon: Tensor, max_shift: int = round(MAX_SHIFT_S * 24_000)) -> Tensor:
    """The highest SI-SDR of any shift of recon by at most `max_shift` samples, on the samples where shifted clips overlap.

    A shift counts where the overlap keeps at least half of the energy of each clip: otherwise it could drop what is wrong.
    Of shifts that do equally well (a periodic sound) the smallest is taken. Shapes, limits and errors as `si_sdr`; never below it.
    """
    reference, recon = _float64(reference, recon)
    max_shift = min(max_shift, reference.shape[-1] - 1)
    shifts = best_shift(reference, recon, max_shift).tolist()
    best = si_sdr(reference, recon)
    for clip, shift in enumerate(shifts):
        end = reference.shape[-1]
        kept_reference = reference[clip : clip + 1, :, max(0, -shift) : end - max(0, shift)]
        kept_recon = recon[clip : clip + 1, :, max(0, shift) : end - max(0, -shift)]
        best[clip] = torch.maximum(best[clip], si_sdr(kept_reference, kept_recon)[0])
    return best


def best_shift(reference: Tensor, recon: Tensor, max_shift: int) -> Tensor:
    """By how many samples recon is late (negative: early), from -max_shift to max_shift: int64 (B,). For (B, C, N) float64.

    SI-SDR grows with the squared correlation of the overlap, here for all shifts at once by FFT.
    """
    length = reference.shape[-1]
    size = 1 << (length + max_shift - 1).bit_length()  # no wrap-around within max_shift
    spectrum = torch.fft.rfft(recon, size) * torch.fft.rfft(reference, size).conj()
    correlation = torch.fft.irfft(spectrum.sum(1), size)
    shifts = torch.arange(-max_shift, max_shift + 1, device=reference.device)
    product = correlation[:, shifts % size]
    reference_energy, recon_energy = _overlap_energy(reference, -shifts), _overlap_energy(recon, shifts)
    enough = (reference_energy >= 0.5 * _energy(reference)) & (recon_energy >= 0.5 * _energy(recon))
    squared = torch.where(enough, product.square() / (reference_energy * recon_energy).clamp_min(1e-300), -1.0)
    order = shifts.abs().argsort(stable=True)
    candidates = squared[:, order] >= squared.amax(1, keepdim=True) - _TIE
    return shifts[order][candidates.int().argmax(1)]


def _overlap_energy(x: Tensor, starts: Tensor) -> Tensor:
    """Energy of x (B, C, N) from sample `start` on, or up to sample N + start where start is negative: (B, len(starts))."""
    running = F.pad(x.square().sum(1).cumsum(1), (1, 0))
    length = x.shape[-1]
    return running[:, (length + starts).clamp_max(length)] - running[:, starts.clamp_min(0)]


def _energy(x: Tensor) -> Tensor:
    return x.square().sum((1, 2))[:, None]


def _decibels(reference: Tensor, recon: Tensor) -> Tensor:
    """For signals (B, N) float64."""
    reference_energy, recon_energy = reference.square().sum(1), recon.square().sum(1)
    scale = (reference * recon).sum(1) / reference_energy.clamp_min(1e-300)
    projection = scale[:, None] * reference
    signal, rest = projection.square().sum(1), (recon - projection).square().sum(1)
    value = (10 * torch.log10(signal / rest)).clamp(FLOOR_DB, CEILING_DB)  # rest 0: infinite, the ceiling
    value = torch.where((recon_energy == 0) | (reference_energy == 0), FLOOR_DB, value)
    return torch.where((reference == recon).all(1), CEILING_DB, value)


def _without_mean(x: Tensor) -> Tensor:
    """Each channel without its mean; exactly zero where only rounding is left."""
    centred = x - x.mean(-1, keepdim=True)
    constant = centred.square().sum(-1, keepdim=True) <= _ROUNDING * x.square().sum(-1, keepdim=True)
    return torch.where(constant, 0.0, centred)


def _float64(reference: Tensor, recon: Tensor) -> tuple[Tensor, Tensor]:
    if reference.shape != recon.shape or reference.dim() != 3:
        raise ValueError(f"reference {tuple(reference.shape)} and recon {tuple(recon.shape)} must be audio of one shape (B, C, N)")
    if not (torch.isfinite(reference).all() and torch.isfinite(recon).all()):
        raise ValueError("reference or recon has samples that are not finite")
    return reference.double(), recon.double()


class SiSdr(PerClipMetric):
    """Scale-invariant signal-to-distortion ratio of the waveform, raw."""

    info = MetricInfo(
        name="si_sdr",
        unit="dB",
        higher_is_better=True,
        needs=frozenset({"audio"}),
        per_clip=True,
        sets=frozenset({"speech"}),
        protocol=f"SI-SDR at the split's sample rate, no mean removal, no alignment, channels together, {_LIMITS}",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert reference.audio is not None
        assert recon.audio is not None
        values = self._values(reference.audio, recon.audio, reference.sample_rate)
        return values.masked_fill(_is_silent(reference.audio), float("nan"))

    def _values(self, reference: Tensor, recon: Tensor, sample_rate: int) -> Tensor:
        return si_sdr(reference, recon)


class SiSdrZeroMean(SiSdr):
    """SI-SDR after removing each channel's mean."""

    info = MetricInfo(
        name="si_sdr_zero_mean",
        unit="dB",
        higher_is_better=True,
        needs=frozenset({"audio"}),
        per_clip=True,
        default=False,  # music and speech have no mean to speak of
        protocol=f"SI-SDR at the split's sample rate, each channel's mean removed, no alignment, channels together, {_LIMITS}",
    )

    def _values(self, reference: Tensor, recon: Tensor, sample_rate: int) -> Tensor:
        return si_sdr(reference, recon, zero_mean=True)


class SiSdrAligned(SiSdr):
    """SI-SDR at the best shift within 50 ms: a fixed delay costs nothing."""

    info = MetricInfo(
        name="si_sdr_aligned",
        unit="dB",
        higher_is_better=True,
        needs=frozenset({"audio"}),
        per_clip=True,
        sets=frozenset({"speech"}),
        protocol=(
            f"SI-SDR at the split's sample rate, no mean removal, best whole-sample shift within +-{1000 * MAX_SHIFT_S:g} ms a clip, "
            f"on the overlap (at least half of either clip's energy), channels together, {_LIMITS}"
        ),
    )

    def _values(self, reference: Tensor, recon: Tensor, sample_rate: int) -> Tensor:
        return si_sdr_aligned(reference, recon, max_shift=round(MAX_SHIFT_S * sample_rate))


class SiSdrMedian(SiSdr):
    """Median over clips of SI-SDR, which clips at +-100 dB do not rule."""

    info = MetricInfo(
        name="si_sdr_median",
        unit="dB",
        higher_is_better=True,
        needs=frozenset({"audio"}),
        resampled=True,
        sets=frozenset({"speech"}),
        default=False,
        protocol=f"median over clips of SI-SDR at the split's sample rate, no mean removal, no alignment, channels together, {_LIMITS}",
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        """Rows (B, 1): kept beside features, since the value is no mean."""
        return super().update(reference, recon, tokens)[:, None]

    def compute(self, rows: np.ndarray) -> float:
        return float(np.nanmedian(rows)) if np.isfinite(rows).any() else float("nan")


def _is_silent(audio: Tensor) -> Tensor:
    return (audio == 0).flatten(1).all(1)
