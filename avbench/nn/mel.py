"""The log-mel front end of AVTok and of the 80-band vocoders of the HiFi-GAN family (Kong et al. 2020, arXiv 2010.05646).

Analysis at 22.05 kHz: FFT and window 1024 (Hann), hop 256, 80 Slaney bands from 0 to 8000 Hz, magnitude sqrt(|X|^2 + 1e-9), ln of at
least 1e-5, 384 samples reflected at each end and no further centring. "Relabelled": 24 kHz samples are taken as if they were
22.05 kHz, by the front end and by the vocoder alike, so that 98,304 samples are exactly 384 frames; a band at f Hz of the
filter bank is then at f * 24000 / 22050 of the sound, and the highest ends at 8707 Hz.
"""

from functools import lru_cache

import librosa
import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 24_000  # Hz, of the sound
NOMINAL_RATE = 22_050  # Hz, which the filter bank is made for
N_FFT = 1024
HOP = 256
NUM_MELS = 80
F_MAX = 8_000.0  # nominal Hz
PAD = (N_FFT - HOP) // 2
MIN_MAGNITUDE = 1e-5
MIN_LOG = -11.512925  # ln(MIN_MAGNITUDE): what silence gives


def log_mel(audio: Tensor) -> Tensor:
    """Log-mel spectrogram, natural logarithm.

    Args:
        audio: (..., N) in [-1, 1], N > 384, at 24 kHz.

    Returns:
        float32 (..., 80, ceil(N / 256)), at least ln(1e-5) = -11.51; the samples are filled up with zeros to whole hops.
        Each item is computed alone, so that no value depends on the others of its batch.
    """
    if audio.shape[-1] <= PAD:
        raise ValueError(f"audio of shape {tuple(audio.shape)}: over {PAD} samples are needed, half a window less half a hop")
    flat = F.pad(audio.float(), (0, -audio.shape[-1] % HOP))
    flat = flat.reshape(-1, flat.shape[-1])
    mels = torch.stack([_log_mel(item) for item in flat]) if len(flat) else flat.new_zeros(0, NUM_MELS, flat.shape[-1] // HOP)
    return mels.reshape(*audio.shape[:-1], NUM_MELS, -1)


def magnitudes(audio: Tensor) -> Tensor:
    """sqrt(|X|^2 + 1e-9) of (N,) samples, N a multiple of 256: (513, N / 256); frame t is centred on sample 256 t + 128."""
    padded = F.pad(audio[None], (PAD, PAD), mode="reflect")[0]
    window = torch.hann_window(N_FFT, device=audio.device)
    spectrum = torch.stft(padded, N_FFT, hop_length=HOP, window=window, center=False, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()


def mel_basis(device: torch.device | str = "cpu") -> Tensor:
    """The Slaney filter bank (80, 513), area-normalised."""
    return _mel_basis().to(device)


def _log_mel(audio: Tensor) -> Tensor:
    return (mel_basis(audio.device) @ magnitudes(audio)).clamp_min(MIN_MAGNITUDE).log()


@lru_cache(maxsize=1)
def _mel_basis() -> Tensor:
    return torch.from_numpy(librosa.filters.mel(sr=NOMINAL_RATE, n_fft=N_FFT, n_mels=NUM_MELS, fmin=0.0, fmax=F_MAX))
