"""Spectral losses that audio codecs are trained with. B clips, N samples, F bins, M mel bands, T frames.

Mel bands are HTK's, triangles of height 1 up to half the sample rate, as in torchaudio. All values are means: a loss does not grow with the
batch or the length. Computed in float32 whatever autocast says.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

MIN_MEL = 1e-7  # of WavTokenizer's log
FLOOR = 1e-5  # of EnCodec's log


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """A mel spectrogram. n_fft and hop in samples, f_min in Hz; power: 1 for magnitudes, 2 for energies.

    centred: frame t is centred on sample t * hop, as torch.stft does it; otherwise the clip is extended by (n_fft - hop) / 2 on each side.
    Both reflect. normalized: the spectrum is divided by the window's L2 norm.
    """

    n_fft: int
    hop: int
    num_mels: int
    sample_rate: int = 24_000
    f_min: float = 0.0
    power: float = 1.0
    centred: bool = True
    normalized: bool = False


def log_mel_config(sample_rate: int = 24_000) -> MelConfig:
    """100 bands, window 1024, hop 256, magnitudes: Vocos' and WavTokenizer's training loss."""
    return MelConfig(n_fft=1024, hop=256, num_mels=100, sample_rate=sample_rate)


def multi_scale_configs(sample_rate: int = 24_000) -> tuple[MelConfig, ...]:
    """Windows of 64 to 1024 samples, hop a quarter, 64 bands from 64 Hz, normalised energies: EnCodec's training loss in audiocraft."""
    return tuple(
        MelConfig(
            n_fft=2**i,
            hop=2**i // 4,
            num_mels=64,
            sample_rate=sample_rate,
            f_min=64.0,
            power=2.0,
            centred=False,
            normalized=True,
        )
        for i in range(6, 11)
    )


def log_mel_l1(reference: Tensor, recon: Tensor, config: MelConfig | None = None) -> Tensor:
    """Mean |ln mel(reference) - ln mel(recon)|, mels of at least 1e-7 (Vocos, arXiv 2306.00814; weight 45 there).

    Args:
        reference, recon: (B, N) in [-1, 1], over 512 samples.
        config: default `log_mel_config()`.

    Returns:
        Scalar, at least 0.
    """
    config = config or log_mel_config()
    ours, theirs = (mel_spectrogram(audio, config).clamp_min(MIN_MEL).log() for audio in (recon, reference))
    return F.l1_loss(ours, theirs)


def multi_scale_mel(reference: Tensor, recon: Tensor, configs: tuple[MelConfig, ...] | None = None) -> Tensor:
    """EnCodec's spectral loss: mean |difference| of mels + mean squared difference of log10(1e-5 + mel), summed over scales, / (2 scales).

    Args:
        reference, recon: (B, N) in [-1, 1], over 384 samples.
        configs: default `multi_scale_configs()`.

    Returns:
        Scalar, at least 0 (arXiv 2210.13438; weight 2 in audiocraft).
    """
    configs = configs or multi_scale_configs()
    total = torch.zeros((), device=recon.device)
    for config in configs:
        ours, theirs = mel_spectrogram(recon, config), mel_spectrogram(reference, config)
        total = total + F.l1_loss(ours, theirs) + F.mse_loss((ours + FLOOR).log10(), (theirs + FLOOR).log10())
    return total / (2 * len(configs))


def mel_spectrogram(audio: Tensor, config: MelConfig) -> Tensor:
    """(B, N) -> (B, M, T), float32. Without `centred`, zeros fill the last frame."""
    with torch.autocast(audio.device.type, enabled=False):
        audio = audio.float()
        if not config.centred:
            audio = _framed(audio, config)
        window, bands = _tables_on(config, audio.device)
        spectrum = torch.stft(
            audio, config.n_fft, config.hop, window=window, center=config.centred, pad_mode="reflect", normalized=False, return_complex=True
        )
        return torch.einsum("mf,bft->bmt", bands, _magnitudes(spectrum, config.power))


def _framed(audio: Tensor, config: MelConfig) -> Tensor:
    pad = (config.n_fft - config.hop) // 2
    rest = -(audio.shape[-1] + 2 * pad - config.n_fft) % config.hop
    return F.pad(F.pad(audio[:, None], (pad, pad), mode="reflect")[:, 0], (0, rest))


def _magnitudes(spectrum: Tensor, power: float) -> Tensor:
    energy = spectrum.real.square() + spectrum.imag.square()
    # The root of 0 has no finite gradient, and digital silence is common in games; 1e-10 is far below the 1e-7 at which the log starts.
    return energy if power == 2.0 else energy.clamp_min(1e-20).pow(power / 2)


@lru_cache(maxsize=16)
def _tables_on(config: MelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Kept on the device: every step would wait for a copy."""
    window, bands = _tables(config)
    return window.to(device), bands.to(device)


@lru_cache(maxsize=16)
def _tables(config: MelConfig) -> tuple[Tensor, Tensor]:
    """The Hann window (n_fft,) and the filter bank (M, F) with the window's normalisation in it."""
    window = torch.hann_window(config.n_fft)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 64 bands of a 64-sample window: some bands hold no bin, which the recipe accepts
        bands = torchaudio.functional.melscale_fbanks(
            config.n_fft // 2 + 1, config.f_min, config.sample_rate / 2, config.num_mels, config.sample_rate
        )
    scale = float(window.square().sum()) ** (-config.power / 2) if config.normalized else 1.0
    return window, bands.t().contiguous() * scale
