"""EnCodec's discriminators (Défossez et al. 2022, arXiv 2210.13438, section 3.4): one a resolution, on complex spectra.

B clips, N samples, C channels, F bins, T frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

N_FFTS = (2048, 1024, 512, 256, 128)  # windows, hop a quarter
DILATIONS = (1, 2, 4)  # in time
SLOPE = 0.2


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One resolution's logits (B, 1, T, F') and the features that led to them."""

    logits: Tensor
    features: list[Tensor]


class Discriminators(nn.Module):
    """Waveform (B, N) in [-1, 1] -> a judgement a resolution."""

    def __init__(self, filters: int = 32) -> None:
        super().__init__()
        self.judges = nn.ModuleList(SpectrumDiscriminator(n_fft, filters) for n_fft in N_FFTS)

    def forward(self, audio_BN: Tensor) -> list[Judgement]:
        return [judge(audio_BN) for judge in self.judges]


class SpectrumDiscriminator(nn.Module):
    """2D convolutions over real and imaginary parts; bins are halved three times, time is only dilated."""

    def __init__(self, n_fft: int, filters: int) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.window: Tensor
        first = _conv(2, filters, (3, 9))
        wider = [_conv(filters, filters, (3, 9), stride=(1, 2), dilation=(dilation, 1)) for dilation in DILATIONS]
        self.layers = nn.ModuleList([first, *wider, _conv(filters, filters, (3, 3))])
        self.last = _conv(filters, 1, (3, 3))

    def forward(self, audio_BN: Tensor) -> Judgement:
        spectrum = torch.stft(audio_BN, self.n_fft, self.n_fft // 4, window=self.window, normalized=True, return_complex=True)
        x = torch.view_as_real(spectrum).permute(0, 3, 2, 1)  # (B, 2, T, F)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return Judgement(logits=self.last(x), features=features)


def hinge(real: list[Judgement], fake: list[Judgement]) -> Tensor:
    """What the discriminators minimise, mean over resolutions."""
    parts = [F.relu(1 - r.logits).mean() + F.relu(1 + f.logits).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(parts).mean()


def generator_hinge(fake: list[Judgement]) -> Tensor:
    """What the codec minimises, mean over resolutions."""
    return torch.stack([F.relu(1 - judgement.logits).mean() for judgement in fake]).mean()


def feature_distance(real: list[Judgement], fake: list[Judgement]) -> Tensor:
    """Mean |difference| of each layer's features over the mean of the real ones, mean over layers and resolutions."""
    pairs = [pair for r, f in zip(real, fake, strict=True) for pair in zip(r.features, f.features, strict=True)]
    return torch.stack([F.l1_loss(theirs, ours) / ours.abs().mean().clamp_min(1e-6) for ours, theirs in pairs]).mean()


def _conv(
    inputs: int, outputs: int, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1)
) -> nn.Module:
    """Padded to keep its input's size before the stride."""
    time, bins = ((size - 1) * step // 2 for size, step in zip(kernel, dilation, strict=True))
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride=stride, dilation=dilation, padding=(time, bins)))
