"""What CAV-MAE Sync looks at and listens to, made as its authors make it, for whole batches on any device.

B clips, N samples, F filter-bank frames, T pictures of a clip.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE = 16_000  # Hz
WINDOW, HOP, FFT = 400, 160, 512  # 25 ms every 10 ms
PREEMPHASIS = 0.97
LOW_HZ = 20.0
# Mean and deviation of a filter bank in the authors' retrieval code.
LOG_MEAN, LOG_STD = -5.081, 4.4849
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def filter_bank(audio_BN: Tensor, bands: int) -> Tensor:
    """Kaldi's log filter bank (Hann window, no dither, no energy) of 16 kHz samples in [-1, 1]: (B, F, bands), F = (N - 400) // 160 + 1.

    torchaudio.compliance.kaldi.fbank takes one clip and builds its filters on the CPU each time; the test compares with it.
    """
    x = audio_BN - audio_BN.mean(-1, keepdim=True)
    x = x.unfold(-1, WINDOW, HOP)
    x = x - x.mean(-1, keepdim=True)
    x = x - PREEMPHASIS * torch.cat([x[..., :1], x[..., :-1]], dim=-1)
    power = torch.fft.rfft(x * torch.hann_window(WINDOW, periodic=False, device=x.device), FFT).abs().square()
    mel = power[..., : FFT // 2] @ _filters(bands, x.device)
    return mel.clamp_min(torch.finfo(torch.float32).eps).log()


def sound_picture(audio_BN: Tensor, bands: int, frames: int) -> Tensor:
    """(B, 1, bands, frames), normalised, of 16 kHz samples. Frames beyond the sound's end are log 0 = 0 before normalisation, as the
    authors pad. Raises ValueError for more sound than `frames`."""
    found = filter_bank(audio_BN, bands)
    if found.shape[1] > frames:
        raise ValueError(f"{audio_BN.shape[-1]} samples at {SAMPLE_RATE} Hz are {found.shape[1]} frames; the teacher takes {frames}")
    padded = F.pad(found, (0, 0, 0, frames - found.shape[1]))
    return ((padded - LOG_MEAN) / LOG_STD).transpose(1, 2)[:, None]


def pictures(frames_N3HW: Tensor, resolution: int) -> Tensor:
    """ImageNet-normalised (N, 3, resolution, resolution) of frames in [0, 1]; bicubic with PIL's kernel, as the authors resize."""
    x = frames_N3HW
    if x.shape[-2:] != (resolution, resolution):
        x = F.interpolate(x, (resolution, resolution), mode="bicubic", antialias=True).clamp(0, 1)
    mean, std = (_channels(values, x.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (x - mean) / std


def unit_range(x: Tensor) -> Tensor:
    """float32 in [0, 1] of uint8, or of floats in [0, 1]."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


@lru_cache(maxsize=8)
def _filters(bands: int, device: torch.device) -> Tensor:
    """(256, bands) triangles on Kaldi's mel axis from 20 Hz to 8 kHz; kept on the device, or every step would wait for a copy."""
    from torchaudio.compliance.kaldi import get_mel_banks

    weights, _ = get_mel_banks(bands, FFT, float(SAMPLE_RATE), LOW_HZ, 0.0, 100.0, -500.0, 1.0)
    return weights.T.contiguous().to(device)


@lru_cache(maxsize=8)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(-1, 1, 1)
