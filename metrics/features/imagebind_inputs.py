"""What ImageBind looks at and listens to, made as in the authors' data.py, for whole batches on any device.

Spans of 2 s are spread evenly over a clip, the first at its start, the last at its end: five of video, three of sound. B clips, S pieces.
"""

import math

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from avbench.nn.filter_bank import filter_bank

SAMPLE_RATE = 16_000  # Hz
SPAN_S = 2
VIDEO_SPANS, AUDIO_SPANS = 5, 3
RESOLUTION = 224
BANDS, FRAMES = 128, 204  # of a filter bank
LOG_MEAN, LOG_STD = -4.268, 9.138
RGB_MEAN, RGB_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MIN_SAMPLES = 400  # 25 ms at 16 kHz, one frame of a filter bank


def video_pieces(video: Tensor, fps: float) -> Tensor:
    """(B, S, 3, 2, 224, 224), normalised, of clips (B, T, 3, H, W) in [0, 1]: S = 5 spans x 3 crops, or 5 where the picture is square.

    Short side to 224, bilinear without antialiasing. The three crops of a square picture are one and the same.
    """
    frames = torch.tensor(span_frames(video.shape[1], fps), device=video.device)
    picked = video[:, frames.flatten()]  # (B, 2 x spans, 3, H, W)
    pictures = F.interpolate(picked.flatten(0, 1), scaled(*video.shape[-2:]), mode="bilinear", align_corners=False)
    pictures = (pictures - _channels(RGB_MEAN, video)) / _channels(RGB_STD, video)
    pairs = pictures.unflatten(0, (len(video), VIDEO_SPANS, 2)).transpose(2, 3)  # (B, spans, 3, 2, h, w)
    return torch.stack(crops(pairs), dim=2).flatten(1, 2)


def span_frames(num_frames: int, fps: float) -> list[tuple[int, int]]:
    """First and last frame of each span [start, start + 2 s): of 16 frames in 4.096 s (0, 7), (3, 9), (5, 11), (7, 13), (9, 15)."""
    length = SPAN_S * fps  # in frames
    room = max(num_frames - length, 0) / (VIDEO_SPANS - 1)
    starts = [room * number for number in range(VIDEO_SPANS)]
    # Rounded before ceil: 2.0000000001 is frame 2.
    bounds = [(math.ceil(round(s, 6)), min(math.ceil(round(s + length, 6)), num_frames)) for s in starts]
    return [(first, max(first, end - 1)) for first, end in bounds]


def scaled(height: int, width: int) -> tuple[int, int]:
    """Size with a short side of 224, the long side rounded down."""
    if width < height:
        return math.floor(height / width * RESOLUTION), RESOLUTION
    return RESOLUTION, math.floor(width / height * RESOLUTION)


def crops(pictures: Tensor) -> list[Tensor]:
    """Squares of 224 at both ends and in the middle of the long side of (..., h, w); a single one where there is no long side."""
    height, width = pictures.shape[-2:]
    dim, room = (-2, height - RESOLUTION) if height > width else (-1, width - RESOLUTION)
    starts = (0, math.ceil(room / 2), room) if room else (0,)
    return [pictures.narrow(dim, start, RESOLUTION) for start in starts]


def audio_pieces(audio: Tensor, sample_rate: int) -> Tensor:
    """Normalised filter banks (B, 3, 1, 128, 204) of sound (B, C, N) in [-1, 1]; frames that a span lacks are 0 before normalisation.

    Raises ValueError where there are less than 25 ms.
    """
    mono = torchaudio.functional.resample(audio.mean(1), sample_rate, SAMPLE_RATE)
    if mono.shape[-1] < MIN_SAMPLES:
        raise ValueError(f"ImageBind needs 25 ms of audio, this has {audio.shape[-1]} samples at {sample_rate} Hz")
    length = min(SPAN_S * SAMPLE_RATE, mono.shape[-1])
    spans = torch.stack([mono[:, start : start + length] for start in span_starts(mono.shape[-1])], dim=1)
    banks = filter_bank(spans.flatten(0, 1), BANDS)  # (B x 3, frames, 128)
    padded = F.pad(banks, (0, 0, 0, FRAMES - banks.shape[1]))
    return ((padded - LOG_MEAN) / LOG_STD).transpose(1, 2).unflatten(0, (len(audio), AUDIO_SPANS))[:, :, None]


def span_starts(num_samples: int) -> list[int]:
    """First samples of the spans at 16 kHz: 0, 16,768 and 33,536 of 65,536."""
    room = max(num_samples - SPAN_S * SAMPLE_RATE, 0)
    return [room * number // (AUDIO_SPANS - 1) for number in range(AUDIO_SPANS)]


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(-1, 1, 1)
