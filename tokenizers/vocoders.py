"""Log-mel (avbench/nn/mel.py) -> waveform: Griffin-Lim, HiFi-GAN universal, BigVGAN where its files are: what a mel tokenizer can reach.

MR-STFT from the reference's own mel on 9 arcade / 6 VGGSound clips: Griffin-Lim 1.17 / 1.07 at 0.3 s a clip on one core, HiFi-GAN
2.77 / 1.42 at 3 s (a speech vocoder: it hisses where an arcade game is silent).
"""

from functools import lru_cache
from typing import Protocol

import torch
import torchaudio
from torch import Tensor, nn

from avbench import weights
from avbench.errors import UsageError
from avbench.nn.mel import HOP, MIN_MAGNITUDE, N_FFT, mel_basis
from avbench.tokenizers import bigvgan, hifigan
from avbench.weights.load import sha256_of

HIFIGAN_WEIGHTS = "hifigan-universal"
DEFAULT_VOCODER = "griffinlim"
_BIGVGAN_1 = "LibriTTS, VCTK and LJSpeech (BigVGAN)"
BIGVGANS = {"bigvgan": "speech, environmental sounds and instruments (BigVGAN 2)", "bigvgan_v1": _BIGVGAN_1, "bigvgan_base": _BIGVGAN_1}


class Vocoder(Protocol):
    """Turns each log-mel of a batch into sound, independently of the others."""

    name: str
    revision: str  # changes with the sound
    parameters: int
    trained_on: str

    def __call__(self, log_mel: Tensor) -> Tensor:
        """Log-mel (B, 80, F) -> samples (B, 256 F) in [-1, 1] at 24 kHz."""
        ...


class GriffinLim:
    """Phase retrieval (Griffin & Lim 1984, accelerated as by Perraudin et al. 2013), from zero phase: no weights and no chance.

    The filter bank is inverted by least squares, then `nnls_steps` multiplicative updates (Lee & Seung 2001) with non-negative
    magnitudes; its floor of 1e-5 counts as silence (MR-STFT 1.17 against 1.36 on arcade). Above the last band (8.7 kHz) a mel says
    nothing: the mean of its last 36 bins goes on there, 0.7 times as loud and falling by 1/e in 143 bins; left empty, MR-STFT is
    2.07 and 1.84 instead of 1.36 and 1.06 (same clips, before the floor).
    """

    name = "griffinlim"
    parameters = 0
    trained_on = "nothing"
    edge_gain, edge_bins, edge_decay = 0.7, 36, 0.007

    def __init__(self, iterations: int = 32, nnls_steps: int = 30, momentum: float = 0.99) -> None:
        self.iterations, self.nnls_steps, self.momentum = iterations, nnls_steps, momentum
        self.revision = f"griffinlim-1-{iterations}-{nnls_steps}-{momentum:g}"

    def __call__(self, log_mel: Tensor) -> Tensor:
        return torch.stack([self._one(item) for item in log_mel.float()])

    def linear(self, log_mel: Tensor) -> Tensor:
        """Linear magnitudes (513, F) of one log-mel (80, F)."""
        mel = (log_mel.exp() - MIN_MAGNITUDE).clamp_min(0)
        basis, inverse = mel_basis(mel.device), _inverse_basis().to(mel.device)
        magnitude = (inverse @ mel).clamp_min(1e-8)
        wanted, gram = basis.T @ mel, basis.T @ basis
        for _ in range(self.nnls_steps):
            magnitude = magnitude * wanted / (gram @ magnitude).clamp_min(1e-12)
        return self._fill_above(magnitude, int(basis.any(0).nonzero().max()) - 3)

    def _fill_above(self, magnitude: Tensor, edge: int) -> Tensor:
        """Bins from `edge` on, which the last triangle hardly weighs or no band covers, from those below."""
        above = torch.arange(magnitude.shape[0] - edge, device=magnitude.device)
        slope = self.edge_gain * torch.exp(-self.edge_decay * above)
        return torch.cat([magnitude[:edge], slope[:, None] * magnitude[edge - self.edge_bins : edge].mean(0)])

    def _one(self, log_mel: Tensor) -> Tensor:
        """(80, F) -> (256 F,). torchaudio centres frame t on sample 256 t, mel.py on 256 t + 128: hence a frame at each end."""
        magnitude = self.linear(log_mel)
        magnitude = torch.cat([magnitude[:, :1], magnitude, magnitude[:, -1:]], dim=1)
        length = HOP * (magnitude.shape[1] - 1)
        samples = torchaudio.functional.griffinlim(
            magnitude,
            window=torch.hann_window(N_FFT, device=magnitude.device),
            n_fft=N_FFT,
            hop_length=HOP,
            win_length=N_FFT,
            power=1.0,
            n_iter=self.iterations,
            momentum=self.momentum,
            length=length,
            rand_init=False,
        )
        return samples[HOP // 2 : length - HOP // 2].clamp(-1, 1)


class NeuralVocoder:
    """A generator of the HiFi-GAN family: log-mel (1, 80, F) -> (1, 1, 256 F). Trained at 22.05 kHz, relabelled here: see mel.py."""

    def __init__(self, generator: nn.Module, *, name: str, revision: str, trained_on: str, device: torch.device | str = "cpu") -> None:
        self.generator, self.device = generator.to(device), torch.device(device)
        self.name, self.revision, self.trained_on = name, revision, trained_on
        self.parameters = sum(weight.numel() for weight in generator.parameters())

    @torch.inference_mode()
    def __call__(self, log_mel: Tensor) -> Tensor:
        """One clip at a time: batches are no faster on a CPU and round differently."""
        return torch.cat([self.generator(item[None].float().to(self.device))[:, 0] for item in log_mel]).clamp(-1, 1)


def load_vocoder(name: str, device: torch.device | str = "cpu") -> Vocoder:
    """The vocoder called `name`. Raises UsageError for another name, WeightsUnavailable where its files cannot be had."""
    if name == GriffinLim.name:
        return GriffinLim()
    if name == "hifigan":
        return _hifigan(device)
    if name in BIGVGANS:
        return _bigvgan(name, device)
    known = ", ".join([GriffinLim.name, "hifigan", *BIGVGANS])
    raise UsageError(f'unknown vocoder "{name}"; known: {known}; for example mel-vocoder@hifigan')


def _hifigan(device: torch.device | str) -> NeuralVocoder:
    """HiFi-GAN V1 with its authors' universal weights."""
    pinned = weights.CATALOG[HIFIGAN_WEIGHTS].sha256
    generator = hifigan.load(weights.path(HIFIGAN_WEIGHTS), pinned)
    revision = f"{HIFIGAN_WEIGHTS}-{str(pinned)[:12]}"
    return NeuralVocoder(generator, name="hifigan", revision=revision, trained_on="HiFi-GAN's universal set (speech)", device=device)


def _bigvgan(name: str, device: torch.device | str) -> NeuralVocoder:
    """The revision holds the files' own sha256: no pin is known."""
    file, config = weights.path(name), weights.path(f"{name}-config")
    revision = f"{name}-{sha256_of(file)[:12]}-{sha256_of(config)[:6]}"
    return NeuralVocoder(bigvgan.load(file, config), name=name, revision=revision, trained_on=BIGVGANS[name], device=device)


@lru_cache(maxsize=1)
def _inverse_basis() -> Tensor:
    """Pseudo-inverse (513, 80) of the filter bank."""
    return torch.linalg.pinv(mel_basis())
