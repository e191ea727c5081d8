"""Integrated loudness (ITU-R BS.1770-5, annex 1) and how far a reconstruction's is from its reference's, in loudness units (LU, = dB).

Channels are weighted, their mean squares summed over blocks of 400 ms that overlap by three quarters, and blocks count that are above
-70 LUFS and above 10 LU less than the mean of those. The standard gives its filters at 48 kHz; at another rate they are the same analogue
filters, transformed anew (De Man 2014, "Evaluation of implementations of the EBU R128 loudness measurement").
"""

import math

import numpy as np
import torch
from torch import Tensor

from avbench.metric import MetricInfo, PerClipMetric
from avbench.types import ClipBatch, Tokens

BLOCK_S, HOP_S = 0.4, 0.1
OFFSET = -0.691  # of the standard: a 997 Hz sine of full scale in one channel has -3.01
GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
MAX_CHANNELS = 2  # left and right weigh the same; what more channels are is not known here


def integrated_loudness(audio: Tensor, sample_rate: int) -> Tensor:
    """Loudness in LUFS of each clip: (B,) float64 on the CPU. -70, the gate, where no block is louder.

    Args:
        audio: (B, C, N) in [-1, 1], C 1 (mono, one loudspeaker) or 2.

    Raises:
        ValueError: more channels, or less than 400 ms.
    """
    from scipy.signal import lfilter  # type: ignore[attr-defined]

    block, hop = round(BLOCK_S * sample_rate), round(HOP_S * sample_rate)
    if audio.dim() != 3 or audio.shape[1] > MAX_CHANNELS or audio.shape[-1] < block:
        raise ValueError(
            f"audio {tuple(audio.shape)}: (B, C, N) with at most {MAX_CHANNELS} channels and at least {block} samples is needed"
        )
    weighted = audio.double().cpu().numpy()
    for numerator, denominator in k_weighting(sample_rate):
        weighted = lfilter(numerator, denominator, weighted)
    energy = np.square(weighted).sum(1).cumsum(-1)
    starts = np.arange(0, audio.shape[-1] - block + 1, hop)
    before = np.pad(energy, ((0, 0), (1, 0)))
    powers = np.maximum(before[:, starts + block] - before[:, starts], 0.0) / block
    return torch.tensor([_gated(row) for row in powers], dtype=torch.float64)


def k_weighting(sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Numerator and denominator (3,) of the two filters: the head's high shelf, then the high-pass of the revised low-frequency B curve."""

    def section(frequency: float, quality: float, numerator: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
        """(n0 s^2 + n1 s / Q + n2) / (s^2 + s / Q + 1) by the bilinear transform, `frequency` mapped exactly."""
        k = math.tan(math.pi * frequency / sample_rate)
        to_z = np.array([[1, k / quality, k * k], [-2, 0, 2 * k * k], [1, -k / quality, k * k]])
        denominator = to_z @ np.ones(3)
        return to_z @ np.array(numerator) / denominator[0], denominator / denominator[0]

    gain = 10 ** (3.999843853973347 / 20)
    shelf = section(1681.974450955533, 0.7071752369554196, (gain, gain**0.4996667741545416, 1.0))
    poles = section(38.13547087602444, 0.5003270373238773, (1.0, 0.0, 0.0))[1]
    return [shelf, (np.array([1.0, -2.0, 1.0]), poles)]  # the standard leaves the high-pass's numerator as it is


def _gated(powers: np.ndarray) -> float:
    """LUFS of blocks' mean squares (K,)."""
    loud = powers[powers > _power(GATE_LUFS)]
    if not len(loud):
        return GATE_LUFS
    return _lufs(loud[loud > _power(_lufs(loud.mean()) + RELATIVE_GATE_LU)].mean())


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET) / 10))


def _lufs(power: float) -> float:
    return OFFSET + 10 * math.log10(power)


class LoudnessDifference(PerClipMetric):
    """How much louder or quieter than the reference: |difference| in LU.

    Clips of less than 400 ms, or of more than two channels, have no value.
    """

    info = MetricInfo(
        name="loudness_difference",
        unit="LU",
        higher_is_better=False,
        needs=frozenset({"audio"}),
        per_clip=True,
        default=False,
        protocol=(
            "absolute difference of integrated loudness, ITU-R BS.1770-5 (K-weighting at the split's sample rate, blocks of 400 ms every "
            "100 ms, gates at -70 LUFS and 10 LU under the mean), mono or stereo; a clip below the gate has -70 LUFS; mean over clips"
        ),
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert reference.audio is not None
        assert recon.audio is not None
        made, real = (integrated_loudness(clips.audio, reference.sample_rate) for clips in (recon, reference) if clips.audio is not None)
        return (made - real).abs()
