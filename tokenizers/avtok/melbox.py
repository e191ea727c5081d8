"""Log-mels as the audio stream sees them: a grey frame (B, 1, 1, 80, F) in [0, 1].

Our choice, the paper states none: silence (ln 1e-5) is 0 and a log of 2.5 is 1; full-scale sines and
square waves reach 2.0 and 2.4.
"""

from torch import Tensor

from avbench.nn.mel import MIN_LOG, log_mel

MAX_LOG = 2.5
RANGE = MAX_LOG - MIN_LOG


def to_box(audio_BN: Tensor) -> Tensor:
    """Samples (B, N) at 24 kHz in [-1, 1] -> (B, 1, 1, 80, N / 256)."""
    return mel_to_box(log_mel(audio_BN))


def mel_to_box(mel_BMF: Tensor) -> Tensor:
    """Log-mel (B, 80, F) -> (B, 1, 1, 80, F), clamped to [0, 1]."""
    return ((mel_BMF - MIN_LOG) / RANGE).clamp(0, 1)[:, None, None]


def from_box(box_B11MF: Tensor) -> Tensor:
    """The inverse of `mel_to_box`: (B, 80, F), natural logarithm."""
    return box_B11MF[:, 0, 0] * RANGE + MIN_LOG
