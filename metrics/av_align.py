"""AV-Align: do sounds start when pictures move? (TempoTokens, Yariv et al. 2023, arXiv 2309.16429)

Audio peaks are librosa's onsets, video peaks the local maxima of the mean optical flow between frames; the value is the intersection
over the union of both, where an audio and a video peak less than one frame apart intersect, each with one other at most. As the authors'
code of commit bf0b1e3 does it (their first version matched one video peak to many audio peaks, and so could exceed 1).
"""

import numpy as np
import torch
from torch import Tensor

from avbench.metric import GENERATION, RECONSTRUCTION, MetricInfo, PerClipMetric
from avbench.types import ClipBatch, Tokens

ONSET_RATE = 22_050  # Hz, librosa's default, at which its onset parameters are tuned
MIN_FLOW = 0.1  # pixels, mean over the frame: weaker maxima are noise of a still scene


def av_align(video: Tensor, audio: Tensor, fps: float, sample_rate: int) -> Tensor:
    """AV-Align of each clip, higher is better: (B,) float64. 0 where a clip has no peaks at all: nothing in it is aligned.

    Args:
        video: (B, T, 3, H, W) in [0, 1] at `fps` frames a second.
        audio: (B, C, N) in [-1, 1] at `sample_rate` Hz, channels are averaged.
    """
    frames, mono = gray_frames(video), audio.mean(1).cpu().float().numpy()
    values = [peak_iou(onset_times(m, sample_rate), motion_peak_times(f, fps), fps) for f, m in zip(frames, mono, strict=True)]
    return torch.tensor(values, dtype=torch.float64)


def onset_times(mono: np.ndarray, sample_rate: int) -> np.ndarray:
    """Seconds at which sounds start in mono audio (N,): librosa's onset detection with its defaults at 22,050 Hz."""
    import librosa

    mono = librosa.resample(mono, orig_sr=sample_rate, target_sr=ONSET_RATE)
    strength = librosa.onset.onset_strength(y=mono, sr=ONSET_RATE)
    return np.asarray(librosa.onset.onset_detect(onset_envelope=strength, sr=ONSET_RATE, units="time"))


def motion_peak_times(frames: np.ndarray, fps: float) -> np.ndarray:
    """Seconds at which the mean optical flow of gray frames uint8 (T, H, W) is at least MIN_FLOW and greater than before and after.

    The flow of frame t is that from frame t - 1; frame 0 repeats frame 1, so no peak is at either of them or at the last.
    """
    if len(frames) < 2:
        return np.empty(0)
    flow = [_mean_flow(frames[t - 1], frames[t]) for t in range(1, len(frames))]
    motion = np.array([flow[0], *flow])
    is_peak = (motion[1:-1] > motion[:-2]) & (motion[1:-1] > motion[2:]) & (motion[1:-1] >= MIN_FLOW)
    return (1 + np.flatnonzero(is_peak)) / fps


def peak_iou(audio_peaks: np.ndarray, video_peaks: np.ndarray, fps: float) -> float:
    """Intersection over union, in [0, 1], of sorted peak times in seconds; 0 where there are none at all.

    Each audio peak, in order of time, takes the first free video peak less than one frame away: with windows of one width no other
    assignment finds more pairs.
    """
    free = list(video_peaks)
    for audio_peak in audio_peaks:
        match = next((peak for peak in free if peak - 1 / fps < audio_peak < peak + 1 / fps), None)
        if match is not None:
            free.remove(match)
    intersection = len(video_peaks) - len(free)
    union = len(audio_peaks) + len(free)
    return intersection / union if union else 0.0


def gray_frames(video: Tensor) -> np.ndarray:
    """uint8 (B, T, H, W), as OpenCV turns RGB to gray."""
    import cv2

    pixels = (video * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()
    return np.stack([[cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip] for clip in pixels])


def _mean_flow(before: np.ndarray, after: np.ndarray) -> float:
    """Mean length in pixels of Farneback's optical flow: pyramid 0.5 x 3, window 15, 3 iterations, polynomials 5 / 1.2."""
    import cv2

    flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
    return float(cv2.mean(cv2.magnitude(flow[..., 0], flow[..., 1]))[0])


class AvAlign(PerClipMetric):
    """Do sounds start when pictures move? Overlap of onsets and motion peaks.

    Of the reconstruction alone. Best is the reference's own, that of `identity`: noise makes peaks, and some match.
    """

    info = MetricInfo(
        name="av_align",
        unit="",
        higher_is_better=None,
        best_is_reference=True,
        needs=frozenset({"video", "audio"}),
        per_clip=True,
        tasks=RECONSTRUCTION | GENERATION,
        sets=frozenset({"v2a"}),
        protocol=(
            f"AV-Align of the reconstruction at the split's fps and size (the window is one frame, so fps decides), librosa onset "
            f"defaults at {ONSET_RATE} Hz, OpenCV Farneback flow of uint8 gray frames, maxima of at least {MIN_FLOW} pixels, "
            "one-to-one matches, 0 for a clip without peaks"
        ),
    )

    def update(self, reference: ClipBatch, recon: ClipBatch, tokens: Tokens) -> Tensor:
        assert recon.video is not None
        assert recon.audio is not None
        return av_align(recon.video, recon.audio, reference.fps, reference.sample_rate)
