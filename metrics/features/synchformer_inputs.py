"""What Synchformer sees and hears: half-overlapping segments of 16 frames at 25 fps, and of the same 0.64 s of sound at 16 kHz.

A clip is shown at 25 fps by time: frame k from k / fps on. One that is shorter than 4.8 s starts again at its end, picture and sound alike.
S segments, T frames, C channels, N samples.
"""

import warnings

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from avbench.metrics.features.synchformer import BANDS, MEL_FRAMES, RESOLUTION, SEGMENT_FRAMES, SEGMENTS

FPS, SAMPLE_RATE = 25, 16_000
STRIDE = SEGMENT_FRAMES // 2  # of segments, in frames
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
LEAST_FRAMES = SEGMENT_FRAMES + (SEGMENTS - 1) * STRIDE  # 120: 4.8 s
LOG_OFFSET = 1e-6
LOG_MEAN, LOG_STD = -4.2677393, 4.5689974  # of AudioSet; AST divides by twice the deviation
ROUNDING = 1e-6  # 2.9999999 frames are 3


def video_segments(video_T3HW: Tensor, fps: float) -> Tensor:
    """(S, 16, 3, 224, 224) in [-1, 1] of frames in [0, 1]: short side to 224, bicubic, centre square.

    av-benchmark resizes 8-bit pictures on a CPU, cut to 0..255 between the two passes too: up to 0.04 apart on noise, 2e-5 in the logits.
    """
    pictures = resize(video_T3HW.float(), [RESOLUTION], InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
    pictures = center_crop(pictures, [RESOLUTION]) * 2 - 1
    shown = frame_indices(len(video_T3HW), fps)
    return torch.stack([pictures[shown[start : start + SEGMENT_FRAMES]] for start in segment_starts(len(shown))])


def audio_segments(audio_CN: Tensor, sample_rate: int, duration_s: float) -> Tensor:
    """Normalised log-mel pictures (S, 128, 66) of sound in [-1, 1] of a clip of `duration_s`; channels are averaged."""
    num_frames = frames_shown(duration_s)
    samples = looped(audio_CN, sample_rate, duration_s, num_frames * SAMPLES_PER_FRAME)
    starts = [start * SAMPLES_PER_FRAME for start in segment_starts(num_frames)]
    return log_mel(torch.stack([samples[start : start + SEGMENT_FRAMES * SAMPLES_PER_FRAME] for start in starts]))


def frames_shown(duration_s: float) -> int:
    """How many frames at 25 fps a clip of `duration_s` is made into: at least 4.8 s of them."""
    return max(LEAST_FRAMES, int(duration_s * FPS + ROUNDING))


def frame_indices(num_frames: int, fps: float) -> Tensor:
    """Which of a clip's frames is shown at 0, 1/25, 2/25 s ...: of 16 frames in 4.096 s each 6 or 7 times, then from the first again."""
    time = torch.arange(frames_shown(num_frames / fps), dtype=torch.float64) * fps / FPS  # in the clip's own frames
    return (time + ROUNDING).floor().long() % num_frames


def segment_starts(num_shown: int) -> list[int]:
    """First frames of the first 14 and of the last 14 segments, each once, in order."""
    count = (num_shown - SEGMENT_FRAMES) // STRIDE + 1
    return [STRIDE * number for number in sorted({*range(SEGMENTS), *range(count - SEGMENTS, count)})]


def looped(audio_CN: Tensor, sample_rate: int, duration_s: float, num_samples: int) -> Tensor:
    """(num_samples,) at 16 kHz: the first `duration_s` of the sound, silence where it lacks some, over and over."""
    mono = torchaudio.functional.resample(audio_CN.float().mean(0), sample_rate, SAMPLE_RATE)
    cycle = round(duration_s * SAMPLE_RATE)
    mono = F.pad(mono, (0, cycle - len(mono)))
    return mono[torch.arange(num_samples, device=mono.device) % cycle]


def log_mel(segments_SN: Tensor) -> Tensor:
    """(S, 128, 66) of segments of 10,240 samples: 65 frames of 10 ms, and one of 0 before normalisation."""
    with warnings.catch_warnings():  # the lowest bands are narrower than an FFT bin, and were so in training
        warnings.simplefilter("ignore", UserWarning)
        mel = torchaudio.transforms.MelSpectrogram(SAMPLE_RATE, n_fft=1024, win_length=400, hop_length=160, n_mels=BANDS)
    frames = (mel.to(segments_SN.device)(segments_SN) + LOG_OFFSET).log()
    return (F.pad(frames, (0, MEL_FRAMES - frames.shape[-1])) - LOG_MEAN) / (2 * LOG_STD)
