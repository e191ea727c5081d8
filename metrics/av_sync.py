"""Do sounds begin when pictures move? Correlation of onset strength with motion energy, and the lag at which it is highest.

Both are envelopes: the rise of a log-mel spectrogram, and the mean absolute difference of frames. Each is brought to steps of
10 ms, freed of what changes over seconds, and correlated with the other at every lag within half a second. No network, no weights. How it
falls as sound is shifted: `python benchmarks/av_sync.py`.
"""

import numpy as np
import torch
from torch import Tensor

from avbench.metric import GENERATION, RECONSTRUCTION, MetricInfo, PerClipMetric
from avbench.types import ClipBatch, Tokens

MAX_LAG_S, STEP_S = 0.5, 0.01
ONSET_RATE = 22_050  # Hz, librosa's default, at which its onset strength is tuned
SLOW_S = 1.0  # a running mean of so many seconds is taken away
LAGS = np.arange(-round(MAX_LAG_S / STEP_S), round(MAX_LAG_S / STEP_S) + 1) * STEP_S  # seconds by which sound is later than picture


def lag_correlations(video: Tensor, audio: Tensor, fps: float, sample_rate: int) -> Tensor:
    """Correlation in [-1, 1] of motion and sound at each of `LAGS`: (B, 101) float64; NaN where a clip is still, or silent.

    Args:
        video: (B, T, 3, H, W) in [0, 1] at `fps` frames a second.
        audio: (B, C, N) in [-1, 1] at `sample_rate` Hz, channels are averaged.
    """
    motion = (video[:, 1:].float() - video[:, :-1].float()).abs().flatten(2).mean(2).double().cpu().numpy()
    mono = audio.float().mean(1).cpu().numpy()
    steps = int(video.shape[1] / fps / STEP_S)
    rows = [_correlate(_motion(m, fps, steps), _onsets(a, sample_rate, steps)) for m, a in zip(motion, mono, strict=True)]
    return torch.tensor(np.array(rows).reshape(len(rows), len(LAGS)))


def _motion(differences: np.ndarray, fps: float, steps: int) -> np.ndarray:
    """(steps,) motion energy, linear between frames. What changed from frame t - 1 to t did so, at a guess, half-way."""
    if not differences.any():
        return np.zeros(steps)
    return np.interp(np.arange(steps) * STEP_S, (np.arange(len(differences)) + 0.5) / fps, differences)


def _onsets(mono: np.ndarray, sample_rate: int, steps: int) -> np.ndarray:
    """(steps,) onset strength of librosa's defaults."""
    import librosa

    mono = librosa.resample(mono, orig_sr=sample_rate, target_sr=ONSET_RATE)
    if not mono.any():
        return np.zeros(steps)
    strength = librosa.onset.onset_strength(y=mono, sr=ONSET_RATE)
    return np.interp(np.arange(steps) * STEP_S, librosa.times_like(strength, sr=ONSET_RATE), strength)


def _correlate(motion: np.ndarray, onsets: np.ndarray) -> np.ndarray:
    """Pearson's correlation of motion at t and onsets at t + lag, over the times that both have."""
    motion, onsets = _fast(motion), _fast(onsets)
    found = np.full(len(LAGS), np.nan)
    for number, lag in enumerate(range(-(len(LAGS) // 2), len(LAGS) // 2 + 1)):
        length = len(motion) - abs(lag)
        if length < 2:
            continue
        a, b = motion[max(0, -lag) :][:length], onsets[max(0, lag) :][:length]
        a, b = a - a.mean(), b - b.mean()
        scale = np.sqrt(np.square(a).sum() * np.square(b).sum())
        found[number] = (a * b).sum() / scale if scale > 0 else np.nan
    return found if np.isfinite(found).all() else np.full(len(LAGS), np.nan)


def _fast(envelope: np.ndarray) -> np.ndarray:
    """Without its running mean; all zeros for a constant."""
    width = min(round(SLOW_S / STEP_S), len(envelope)) | 1
    padded = np.pad(envelope, width // 2, mode="edge")
    slow = np.convolve(padded, np.full(width, 1 / width), mode="valid")[: len(envelope)]
    rest = envelope - slow
    return np.where(np.abs(rest).max(initial=0) > 1e-9, rest, 0.0)


_HOW = (
    "librosa onset strength (defaults at 22050 Hz) against mean |difference of frames| at the split's fps, RGB in [0,1], half-way between "
    "them, both in steps of 10 ms without their running mean of 1 s; Pearson, of the reconstruction alone, still or silent clips left out"
)


def _info(name: str, unit: str, protocol: str) -> MetricInfo:
    return MetricInfo(
        name=name,
        unit=unit,
        higher_is_better=None,
        best_is_reference=True,
        needs=frozenset({"video", "audio"}),
        per_clip=True,
        default=False,
        tasks=RECONSTRUCTION | GENERATION,
        sets=frozenset({"v2a"}),
        protocol=f"{protocol}: {_HOW}",
    )


class AvOnsetCorrelation(PerClipMetric):
    """How well sounds' onsets go with motion, in step: a correlation.

    Best is the reference's own, that of `identity`: sounds without motion and motion without sound are in real clips too.
    """

    info = _info("av_onset_corr", "", "correlation at lag 0")

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return _of(reference, recon)[:, len(LAGS) // 2]


class AvOnsetLag(PerClipMetric):
    """Seconds between motion and the sound that goes with it best.

    Best is the reference's own, that of `identity`: of unrelated sound and motion the best lag is anywhere.
    """

    info = _info("av_onset_lag", "s", f"|lag| of the highest correlation, within {MAX_LAG_S:g} s, the smallest of equal ones")

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        return best_lag(_of(reference, recon)).abs()


def best_lag(correlations: Tensor) -> Tensor:
    """Seconds by which sound is late (negative: early), of (B, 101) as `lag_correlations` gives them; NaN of NaN, nearest 0 of equals."""
    order = torch.from_numpy(np.argsort(np.abs(LAGS), kind="stable"))
    best = torch.from_numpy(LAGS)[order][correlations[:, order].nan_to_num(-2).argmax(1)]
    return best.masked_fill(correlations.isnan().any(1), float("nan"))


def _of(reference: ClipBatch, recon: ClipBatch) -> Tensor:
    assert recon.video is not None
    assert recon.audio is not None
    return lag_correlations(recon.video, recon.audio, reference.fps, reference.sample_rate)
