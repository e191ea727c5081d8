"""Kaldi's log filter bank for whole batches on any device. B clips, N samples, F frames."""

from functools import lru_cache

import torch
from torch import Tensor

SAMPLE_RATE = 16_000  # Hz
WINDOW, HOP, FFT = 400, 160, 512  # 25 ms every 10 ms
PREEMPHASIS = 0.97
LOW_HZ = 20.0


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


@lru_cache(maxsize=8)
def _filters(bands: int, device: torch.device) -> Tensor:
    """(256, bands) triangles on Kaldi's mel axis from 20 Hz to 8 kHz; kept on the device, or every step would wait for a copy."""
    from torchaudio.compliance.kaldi import get_mel_banks

    weights, _ = get_mel_banks(bands, FFT, float(SAMPLE_RATE), LOW_HZ, 0.0, 100.0, -500.0, 1.0)
    return weights.T.contiguous().to(device)
