"""A codec's forward pass and its losses: samples, spectra, commitment, and discriminators where the stage weighs them.

EnCodec's discriminators (Défossez et al. 2022, arXiv 2210.13438, section 3.4): one a resolution, on complex spectra.

B clips, N samples, C channels, F bins, T frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from avbench.train.trainee import Losses, Objective
from avbench.train.waveform.config import CodecLoss, CodecStage, CodecTraining, Reconstruction
from avbench.train.waveform.data import Waveforms
from avbench.train.waveform.losses import log_mel_l1, multi_scale_mel

N_FFTS = (2048, 1024, 512, 256, 128)  # windows, hop a quarter
DILATIONS = (1, 2, 4)  # in time
SLOPE = 0.2


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One resolution's logits (B, 1, T, F') and the features that led to them."""

    logits: Tensor
    features: list[Tensor]


class Discriminators(nn.Module):
    """Waveform (B, N) in [-1, 1] -> scores a resolution."""

    def __init__(self, filters: int = 32) -> None:
        super().__init__()
        self.judges = nn.ModuleList(SpectrumDiscriminator(n_fft, filters) for n_fft in N_FFTS)  # by this name in saved runs

    def forward(self, audio_BN: Tensor) -> list[Scores]:
        return [discriminator(audio_BN) for discriminator in self.judges]


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

    def forward(self, audio_BN: Tensor) -> Scores:
        spectrum = torch.stft(audio_BN, self.n_fft, self.n_fft // 4, window=self.window, normalized=True, return_complex=True)
        x = torch.view_as_real(spectrum).permute(0, 3, 2, 1)  # (B, 2, T, F)
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return Scores(logits=self.last(x), features=features)


def hinge(real: list[Scores], fake: list[Scores]) -> Tensor:
    """What the discriminators minimise, mean over resolutions."""
    parts = [F.relu(1 - r.logits).mean() + F.relu(1 + f.logits).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(parts).mean()


def generator_hinge(fake: list[Scores]) -> Tensor:
    """What the codec minimises, mean over resolutions."""
    return torch.stack([F.relu(1 - scores.logits).mean() for scores in fake]).mean()


def feature_distance(real: list[Scores], fake: list[Scores]) -> Tensor:
    """Mean |difference| of each layer's features over the mean of the real ones, mean over layers and resolutions."""
    pairs = [pair for r, f in zip(real, fake, strict=True) for pair in zip(r.features, f.features, strict=True)]
    return torch.stack([F.l1_loss(theirs, ours) / ours.abs().mean().clamp_min(1e-6) for ours, theirs in pairs]).mean()


def _conv(
    inputs: int, outputs: int, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1), dilation: tuple[int, int] = (1, 1)
) -> nn.Module:
    """Padded to keep its input's size before the stride."""
    time, bins = ((size - 1) * step // 2 for size, step in zip(kernel, dilation, strict=True))
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride=stride, dilation=dilation, padding=(time, bins)))


class CodecObjective(Objective[Waveforms]):
    """models: "codec". losses: "discriminators", if the stage weighs them."""

    def __init__(self, codec: nn.Module, config: CodecTraining, stage: CodecStage) -> None:
        super().__init__()
        self.config, self.weights = config, stage.loss
        self.models = nn.ModuleDict({"codec": codec})
        weighed = stage.loss.adversarial or stage.loss.features
        self.losses = nn.ModuleDict({"discriminators": Discriminators(config.discriminator_filters)} if weighed else {})

    def forward(self, batch: Waveforms, progress: float) -> Losses:
        """All losses whose weight is not 0."""
        audio = batch.audio
        dtype = getattr(torch, self.config.compute_dtype)
        with torch.autocast(audio.device.type, dtype=dtype, enabled=dtype != torch.float32):
            made: Reconstruction = self.models["codec"](audio, *self._codebooks(batch.step))
        recon = made.audio.float()
        terms = self._terms(audio, recon, made.commitment)
        total = torch.stack([getattr(self.weights, name) * value for name, value in terms.items()]).sum()
        return Losses(total=total, terms={name: value.detach() for name, value in terms.items()}, recons={"audio": recon.detach()})

    def discriminators(self) -> list[nn.Parameter]:
        """Of all resolutions."""
        return list(self.losses.parameters())

    def discriminator_losses(self, batch: Waveforms, losses: Losses) -> dict[str, Tensor]:
        """The hinge loss."""
        discriminators = self.losses["discriminators"]
        return {"discriminator": hinge(discriminators(batch.audio), discriminators(losses.recons["audio"]))}

    def _codebooks(self, step: int) -> tuple[int, ...]:
        """How many codebooks this step uses; sampled from the step alone, so that all processes use as many."""
        choices = self.config.codebooks
        if not choices:
            return ()
        generator = torch.Generator().manual_seed((self.config.seed * 1_000_003 + step) % 2**63)
        return (choices[int(torch.randint(len(choices), (1,), generator=generator))],)

    def _terms(self, audio: Tensor, recon: Tensor, commitment: Tensor) -> dict[str, Tensor]:
        weights: CodecLoss = self.weights
        terms: dict[str, Tensor] = {}
        if weights.l1:
            terms["l1"] = F.l1_loss(recon, audio)
        if weights.log_mel:
            terms["log_mel"] = log_mel_l1(audio, recon)
        if weights.multi_scale:
            terms["multi_scale"] = multi_scale_mel(audio, recon)
        if weights.commitment:
            terms["commitment"] = commitment
        if weights.adversarial or weights.features:
            terms |= self._by_discriminators(audio, recon)
        return terms

    def _by_discriminators(self, audio: Tensor, recon: Tensor) -> dict[str, Tensor]:
        """The discriminators' view, without a gradient for their own weights."""
        discriminators = self.losses["discriminators"]
        frozen = {name: value.detach() for name, value in (*discriminators.named_parameters(), *discriminators.named_buffers())}
        fake = torch.func.functional_call(discriminators, frozen, (recon,))
        with torch.no_grad():
            real = discriminators(audio)
        return {"adversarial": generator_hinge(fake), "features": feature_distance(real, fake)}
